/*
 * SMTP load generator of the bench: N connections, each in lock-step, as fast as replies come.
 *
 * usage: smtp_gen PORT CONNECTIONS MESSAGES OCTETS reuse|new
 *
 * "reuse" sends all messages of a connection over it; "new" makes a connection for each message, which
 * is what most mail servers and all user agents do. One line of JSON on standard output: messages
 * acknowledged, errors (any reply that is not the expected one, any lost connection), seconds from
 * the first connect to the last reply, and the median and 99th percentile of the time from MAIL to
 * the reply to the final dot. It ends with status 1 if there was any error, or after 120 s.
 *
 * One thread, epoll, nothing allocated after the start: what it costs is system calls.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum state { GREETING, HELLO, MAIL, RCPT, DATA, DOT, QUIT };

static const int expected[] = {220, 250, 250, 250, 354, 250, 221};

struct connection {
    int fd;
    enum state state;
    char line[2048];   /* the reply line that is being read */
    size_t length;
    const char *out;   /* what is still to be written */
    size_t out_length;
    int wants_write;
    double started;    /* when MAIL was sent */
};

static const char EHLO[] = "EHLO client.example\r\n";
static const char MAIL_FROM[] = "MAIL FROM:<sender@personal.example>\r\n";
static const char RCPT_TO[] = "RCPT TO:<recipient@hospital.example>\r\n";
static const char DATA_[] = "DATA\r\n";
static const char QUIT_[] = "QUIT\r\n";

static struct sockaddr_in server;
static struct connection *connections;
static int epoll_fd, is_reuse;
static char *message;
static size_t message_length;
static long wanted, started_count, done_count, error_count, open_count;
static float *latencies;
static double last_reply;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void fail(const char *what)
{
    perror(what);
    exit(2);
}

static void watch(struct connection *c, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll_fd, operation, c->fd, &event) < 0)
        fail("epoll_ctl");
}

static void close_connection(struct connection *c)
{
    if (c->fd >= 0) {
        close(c->fd);
        c->fd = -1;
        open_count--;
    }
}

static void open_connection(struct connection *c)
{
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0)
        fail("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(c->fd, (struct sockaddr *)&server, sizeof server) < 0 && errno != EINPROGRESS)
        fail("connect");
    c->state = GREETING;
    c->length = 0;
    c->out_length = 0;
    c->wants_write = 0;
    open_count++;
    watch(c, EPOLL_CTL_ADD, EPOLLIN);
}

/* Give up this connection; its message counts as an error and is not tried again. */
static void lose(struct connection *c, const char *why)
{
    if (error_count++ < 5)
        fprintf(stderr, "error in state %d: %s\n", c->state, why);
    close_connection(c);
    if (started_count < wanted && error_count < 1000)
        open_connection(c);
}

static void flush_output(struct connection *c)
{
    while (c->out_length > 0) {
        ssize_t n = send(c->fd, c->out, c->out_length, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno != EAGAIN) {
                lose(c, strerror(errno));
                return;
            }
            if (!c->wants_write)
                watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
            c->wants_write = 1;
            return;
        }
        c->out += n;
        c->out_length -= (size_t)n;
    }
    if (c->wants_write)
        watch(c, EPOLL_CTL_MOD, EPOLLIN);
    c->wants_write = 0;
}

static void say(struct connection *c, enum state next, const char *text, size_t length)
{
    c->state = next;
    c->out = text;
    c->out_length = length;
    flush_output(c);
}

static void begin_message(struct connection *c)
{
    if (started_count >= wanted) {
        say(c, QUIT, QUIT_, sizeof QUIT_ - 1);
        return;
    }
    started_count++;
    c->started = now();
    say(c, MAIL, MAIL_FROM, sizeof MAIL_FROM - 1);
}

/* A whole reply with the expected code has come. */
static void advance(struct connection *c)
{
    switch (c->state) {
    case GREETING:
        say(c, HELLO, EHLO, sizeof EHLO - 1);
        break;
    case HELLO:
        begin_message(c);
        break;
    case MAIL:
        say(c, RCPT, RCPT_TO, sizeof RCPT_TO - 1);
        break;
    case RCPT:
        say(c, DATA, DATA_, sizeof DATA_ - 1);
        break;
    case DATA:
        say(c, DOT, message, message_length);
        break;
    case DOT:
        last_reply = now();
        latencies[done_count++] = (float)(last_reply - c->started);
        if (is_reuse)
            begin_message(c);
        else
            say(c, QUIT, QUIT_, sizeof QUIT_ - 1);
        break;
    case QUIT:
        close_connection(c);
        if (started_count < wanted)
            open_connection(c);
        break;
    }
}

static void handle_line(struct connection *c)
{
    c->line[c->length] = 0;
    if (c->length >= 4 && c->line[3] == '-') {
        c->length = 0;
        return;
    }
    int code = atoi(c->line);
    c->length = 0;
    if (code == expected[c->state])
        advance(c);
    else
        lose(c, c->line);
}

static void handle_input(struct connection *c)
{
    char buffer[4096];
    int fd = c->fd;
    ssize_t n = recv(fd, buffer, sizeof buffer, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        lose(c, n < 0 ? strerror(errno) : "connection closed by the server");
        return;
    }
    for (ssize_t i = 0; i < n && c->fd == fd; i++) {
        if (c->length < sizeof c->line - 1)
            c->line[c->length++] = buffer[i];
        if (buffer[i] == '\n')
            handle_line(c);
    }
}

static int compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void make_message(size_t octets)
{
    static const char header[] =
        "From: <sender@personal.example>\r\nTo: <recipient@hospital.example>\r\n"
        "Subject: bench\r\nDate: Thu, 01 Jan 2026 00:00:00 +0000\r\n"
        "Message-Id: <bench@client.example>\r\n\r\n";
    static const char line[] =
        "0123456789012345678901234567890123456789012345678901234567890123456789012345\r\n";
    message = malloc(octets + sizeof header + sizeof line + 8);
    message_length = sizeof header - 1;
    memcpy(message, header, message_length);
    while (message_length < octets) {
        memcpy(message + message_length, line, sizeof line - 1);
        message_length += sizeof line - 1;
    }
    memcpy(message + message_length, ".\r\n", 3);
    message_length += 3;
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: smtp_gen PORT CONNECTIONS MESSAGES OCTETS reuse|new\n");
        return 64;
    }
    server.sin_family = AF_INET;
    server.sin_port = htons((uint16_t)atoi(argv[1]));
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    long count = atol(argv[2]);
    wanted = atol(argv[3]);
    make_message((size_t)atol(argv[4]));
    is_reuse = strcmp(argv[5], "reuse") == 0;
    latencies = calloc((size_t)wanted + 1, sizeof *latencies);
    connections = calloc((size_t)count, sizeof *connections);
    epoll_fd = epoll_create1(0);
    double start = now();
    for (long i = 0; i < count; i++)
        open_connection(&connections[i]);
    while (open_count > 0 && now() - start < 120) {
        struct epoll_event events[256];
        int n = epoll_wait(epoll_fd, events, 256, 1000);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (c->fd >= 0 && (events[i].events & EPOLLOUT))
                flush_output(c);
            if (c->fd >= 0 && (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
                handle_input(c);
        }
    }
    long missing = wanted - done_count;
    qsort(latencies, (size_t)done_count, sizeof *latencies, compare);
    printf("{\"messages\": %ld, \"errors\": %ld, \"seconds\": %.6f, "
           "\"p50_seconds\": %.6f, \"p99_seconds\": %.6f}\n",
           done_count, error_count > missing ? error_count : missing, last_reply - start,
           done_count ? (double)latencies[done_count / 2] : 0.0,
           done_count ? (double)latencies[done_count * 99 / 100] : 0.0);
    return done_count == wanted ? 0 : 1;
}
