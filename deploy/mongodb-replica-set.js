// Make the server a replica set of one, unless it is one, and wait until it takes writes: transactions,
// change streams and majority writes need a replica set.
const password = encodeURIComponent(process.env.MONGO_ROOT_PASSWORD);
const uri = `mongodb://root:${password}@mongodb:27017/admin?directConnection=true&serverSelectionTimeoutMS=2000`;
const deadline = Date.now() + 120_000;
let lastError = "no answer";

while (Date.now() < deadline) {
  try {
    const admin = new Mongo(uri).getDB("admin");
    const hello = admin.hello();
    if (hello.isWritablePrimary && hello.setName === "rs0") {
      print("replica set rs0: primary");
      quit(0);
    }
    if (!hello.setName) {
      admin.adminCommand({
        replSetInitiate: { _id: "rs0", members: [{ _id: 0, host: "mongodb:27017" }] },
      });
    }
    lastError = "no primary yet";
  } catch (error) {
    lastError = error.message;
  }
  sleep(1000);
}
print(`replica set rs0 did not come up within 120 s: ${lastError}`);
quit(1);
