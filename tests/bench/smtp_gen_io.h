/*
 * Connections of the generator: nonblocking, plain or TLS. See smtp_gen_io.c.
 */
#ifndef SMTP_GEN_IO_H
#define SMTP_GEN_IO_H

#include <openssl/ssl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct stream {
    int fd;   /* -1 if there is none */
    SSL *ssl; /* NULL as long as it is plain */
};

/* What stream_read, stream_write and stream_handshake return besides a positive count. */
enum { STREAM_END = 0, STREAM_WANTS_READ = -1, STREAM_WANTS_WRITE = -2 };

void streams_begin(uint16_t port, int is_tls);
void stream_open(struct stream *s);
void stream_close(struct stream *s);
int stream_handshake(struct stream *s);
ssize_t stream_read(struct stream *s, char *buffer, size_t length);
ssize_t stream_write(struct stream *s, const char *data, size_t length);
const char *stream_error(void);

#endif
