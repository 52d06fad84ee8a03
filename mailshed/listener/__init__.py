"""Who speaks? The SMTP server in front: sockets, sessions, mail data. The only user of aiosmtpd."""
