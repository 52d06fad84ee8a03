/*
 * SMTP sink of the bench: takes all mail, keeps none, counts it.
 *
 * usage: smtp_sink PORT COUNTER
 *
 * COUNTER is a file of 8 octets, mapped into memory, that holds the number of messages taken, so that
 * the bench can read it at any time without a question to a busy process. Replies to commands that
 * came in one segment go out in one segment (RFC 2920). End of data is CRLF.CRLF and nothing else.
 *
 * One thread, epoll, one buffer for all reading: no copy of mail data is kept.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* How much of CRLF.CRLF has been seen. */
enum { TERMINATOR_LENGTH = 5 };
static const char TERMINATOR[] = "\r\n.\r\n";

struct connection {
    int fd;
    int in_data;
    int matched;      /* octets of the terminator seen so far */
    char line[1024];  /* the command line that is being read */
    size_t length;
};

static int epoll_fd;
static uint64_t *counter;
static char input[256 * 1024];
static char output[64 * 1024];
static size_t output_length;

static void fail(const char *what)
{
    perror(what);
    exit(2);
}

static void reply(const char *text)
{
    size_t length = strlen(text);
    if (output_length + length <= sizeof output) {
        memcpy(output + output_length, text, length);
        output_length += length;
    }
}

/* Replies are short and the client reads them: a full socket buffer means a broken client. */
static int send_replies(struct connection *c)
{
    ssize_t n = output_length ? send(c->fd, output, output_length, MSG_NOSIGNAL) : 0;
    int is_whole = n == (ssize_t)output_length;
    output_length = 0;
    return is_whole;
}

static void drop(struct connection *c)
{
    close(c->fd);
    free(c);
}

/* Returns 0 if the connection is to be closed. */
static int command(struct connection *c)
{
    c->line[c->length] = 0;
    c->length = 0;
    if (!strncasecmp(c->line, "EHLO", 4))
        reply("250-sink.example\r\n250-PIPELINING\r\n250-SIZE 52428800\r\n250 8BITMIME\r\n");
    else if (!strncasecmp(c->line, "DATA", 4)) {
        reply("354 End data with <CR><LF>.<CR><LF>\r\n");
        c->in_data = 1;
        c->matched = 2; /* the CRLF of DATA counts for an empty message (RFC 5321, 4.1.1.4) */
    } else if (!strncasecmp(c->line, "QUIT", 4)) {
        reply("221 2.0.0 Bye\r\n");
        return 0;
    } else
        reply("250 2.0.0 Ok\r\n");
    return 1;
}

/* Skip mail data; returns how many octets of `data` belong to it. */
static size_t skip_data(struct connection *c, const char *data, size_t length)
{
    size_t i = 0;
    while (i < length) {
        if (c->matched == 0) { /* the common case: jump to the next CR */
            const char *cr = memchr(data + i, '\r', length - i);
            if (!cr)
                return length;
            i = (size_t)(cr - data) + 1;
            c->matched = 1;
            continue;
        }
        if (data[i] == TERMINATOR[c->matched])
            c->matched++;
        else if (data[i] == '\r')
            c->matched = 1;
        else
            c->matched = 0;
        i++;
        if (c->matched == TERMINATOR_LENGTH) {
            c->in_data = 0;
            ++*counter;
            reply("250 2.0.0 Ok: taken\r\n");
            return i;
        }
    }
    return length;
}

static void handle_input(struct connection *c)
{
    ssize_t n = recv(c->fd, input, sizeof input, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    int is_open = n > 0;
    for (ssize_t i = 0; is_open && i < n;) {
        if (c->in_data) {
            i += (ssize_t)skip_data(c, input + i, (size_t)(n - i));
            continue;
        }
        if (c->length < sizeof c->line - 1)
            c->line[c->length++] = input[i];
        if (input[i++] == '\n')
            is_open = command(c);
    }
    if (!send_replies(c) || !is_open)
        drop(c);
}

static void accept_all(int listener)
{
    for (;;) {
        int one = 1;
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
        if (fd < 0)
            return;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct connection *c = calloc(1, sizeof *c);
        c->fd = fd;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
            fail("epoll_ctl");
        reply("220 sink.example ESMTP\r\n");
        if (!send_replies(c))
            drop(c);
    }
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: smtp_sink PORT COUNTER\n");
        return 64;
    }
    int file = open(argv[2], O_RDWR | O_CREAT, 0600);
    if (file < 0 || ftruncate(file, sizeof *counter) < 0)
        fail(argv[2]);
    counter = mmap(NULL, sizeof *counter, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (counter == MAP_FAILED)
        fail("mmap");
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)atoi(argv[1])),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(listener, 4096) < 0)
        fail("listen");
    epoll_fd = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        struct epoll_event events[256];
        int n = epoll_wait(epoll_fd, events, 256, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr)
                handle_input(events[i].data.ptr);
            else
                accept_all(listener);
        }
    }
}
