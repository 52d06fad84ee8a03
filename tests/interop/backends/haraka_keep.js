// Writes each message into a file before Haraka says 250, its recipients on top, as queue/test does;
// but also those of clients with a login: to Haraka that is outbound mail, and it would look for the
// recipient's server in the DNS.
const fs = require('node:fs');
const path = require('node:path');

exports.register = function () {
    this.register_hook('queue', 'keep');
    this.register_hook('queue_outbound', 'keep');
};

exports.keep = function (next, connection) {
    const name = connection.transaction.uuid;
    const unfinished = path.join(process.env.HARAKA_INBOX, 'tmp', name);
    const stream = fs.createWriteStream(unfinished);
    stream.once('close', () => {
        fs.renameSync(unfinished, path.join(process.env.HARAKA_INBOX, 'new', name));
        next(OK);
    });
    for (const recipient of connection.transaction.rcpt_to) {
        stream.write(`X-Envelope-To: ${recipient.original}\r\n`);
    }
    connection.transaction.message_stream.pipe(stream);
};
