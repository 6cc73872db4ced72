// Runs once, on an empty data volume: the account of the pipeline, which may read and write its own
// database and nothing else.
db.getSiblingDB(process.env.MONGO_APP_DATABASE).createUser({
  user: "mnist_ops",
  pwd: process.env.MONGO_APP_PASSWORD,
  roles: [{ role: "readWrite", db: process.env.MONGO_APP_DATABASE }],
});
