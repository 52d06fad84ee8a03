/*
 * Connections of the generator: nonblocking sockets to one port of loopback, plain or TLS.
 *
 * TLS is OpenSSL with what it offers by itself. No session is resumed, so that a connection costs a
 * whole handshake, and nobody's certificate is looked at. A call that cannot go on says for what it
 * waits; with TLS that may be the other direction.
 */
#include "smtp_gen_io.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct sockaddr_in server;
static SSL_CTX *context;
static const char *last_error = "";

static void fail(const char *what)
{
    perror(what);
    exit(2);
}

void streams_begin(uint16_t port, int is_tls)
{
    server.sin_family = AF_INET;
    server.sin_port = htons(port);
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (!is_tls)
        return;
    context = SSL_CTX_new(TLS_client_method());
    if (!context)
        fail("SSL_CTX_new");
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_mode(context,
                     SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
}

void stream_open(struct stream *s)
{
    int one = 1;
    s->ssl = NULL;
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (s->fd < 0)
        fail("socket");
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(s->fd, (struct sockaddr *)&server, sizeof server) < 0 && errno != EINPROGRESS)
        fail("connect");
}

void stream_close(struct stream *s)
{
    if (s->ssl) {
        if (SSL_is_init_finished(s->ssl))
            SSL_shutdown(s->ssl);
        SSL_free(s->ssl);
        ERR_clear_error();
    }
    close(s->fd);
    s->fd = -1;
    s->ssl = NULL;
}

const char *stream_error(void)
{
    return last_error;
}

/* A call on a plain socket has returned `n`. */
static ssize_t plain_result(ssize_t n, int direction)
{
    if (n >= 0)
        return n;
    if (errno == EAGAIN)
        return direction;
    last_error = strerror(errno);
    return STREAM_END;
}

/* A call on a TLS connection has returned `n`. */
static ssize_t tls_result(struct stream *s, int n)
{
    if (n > 0)
        return n;
    switch (SSL_get_error(s->ssl, n)) {
    case SSL_ERROR_WANT_READ:
        return STREAM_WANTS_READ;
    case SSL_ERROR_WANT_WRITE:
        return STREAM_WANTS_WRITE;
    case SSL_ERROR_ZERO_RETURN:
        return STREAM_END;
    default:
        last_error = ERR_peek_error() ? ERR_reason_error_string(ERR_peek_error()) : "TLS broken";
        ERR_clear_error();
        return STREAM_END;
    }
}

/* Begin TLS or go on with it; positive when it is done. */
int stream_handshake(struct stream *s)
{
    if (!s->ssl) {
        s->ssl = SSL_new(context);
        if (!s->ssl || !SSL_set_fd(s->ssl, s->fd))
            fail("SSL_new");
    }
    return (int)tls_result(s, SSL_connect(s->ssl));
}

ssize_t stream_read(struct stream *s, char *buffer, size_t length)
{
    last_error = "connection closed by the server";
    if (s->ssl)
        return tls_result(s, SSL_read(s->ssl, buffer, (int)length));
    return plain_result(recv(s->fd, buffer, length, 0), STREAM_WANTS_READ);
}

ssize_t stream_write(struct stream *s, const char *data, size_t length)
{
    last_error = "connection closed by the server";
    if (s->ssl)
        return tls_result(s, SSL_write(s->ssl, data, (int)length));
    return plain_result(send(s->fd, data, length, MSG_NOSIGNAL), STREAM_WANTS_WRITE);
}
