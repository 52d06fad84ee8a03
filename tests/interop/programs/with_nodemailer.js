// nodemailer, from npm. A raw message is sent as it is.
const fs = require("node:fs");
const nodemailer = require("nodemailer");

const job = JSON.parse(fs.readFileSync(process.argv[2]));
const transport = nodemailer.createTransport({
  host: "localhost",
  port: job.port,
  name: "nodemailer.example",
  secure: false,
  requireTLS: job.is_tls,
  ignoreTLS: !job.is_tls,
  tls: job.is_tls ? { ca: fs.readFileSync(job.ca_file) } : {},
  auth: job.user ? { user: job.user, pass: job.password } : undefined,
});
transport
  .sendMail({
    envelope: { from: job.sender, to: [job.recipient], use8BitMime: job.is_8bit },
    raw: fs.readFileSync(job.wire),
  })
  .then((done) => console.log(done.response))
  .catch((error) => {
    console.error(error.message);
    process.exitCode = 1;
  });
