"""S3: immutable objects, images by s3:// URL, and garbage collection."""
