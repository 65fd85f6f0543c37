// Creates the user of the api and the worker. Runs once, when MongoDB starts without data.
const admin = db.getSiblingDB("admin");
admin.auth("root", process.env.MONGO_INITDB_ROOT_PASSWORD);
admin.createUser({
  user: "dezky",
  pwd: process.env.DEZKY_PASSWORD,
  roles: [
    { role: "readWrite", db: process.env.DEZKY_DATABASE },
    // To check that the limit of a transaction's lifetime is low enough.
    { role: "clusterMonitor", db: "admin" },
  ],
});
