/*
 * SMTP load generator of the bench: N connections, as fast as replies come or at a rate.
 *
 * usage: smtp_gen PORT [--connections N] [--octets N] [--messages N] [--seconds S] [--new]
 *                 [--pipelined] [--tls starttls|implicit] [--rate R]
 *
 * It ends after so many messages, or begins none after so many seconds. All messages of a connection
 * go over it; with --new there is a connection for each message, which is what most mail servers and
 * all user agents do. Commands wait for replies; with --pipelined MAIL, RCPT and DATA are one write
 * (RFC 2920). With --rate messages are due at random times (Poisson) of that mean rate, whatever the
 * replies do: one that finds no free connection waits, and its time runs (no coordinated omission).
 *
 * One line of JSON on standard output: messages acknowledged, errors (any reply that is not the
 * expected one, any lost connection), seconds from the first connect to the last reply, and median
 * and 99th percentile of the time from MAIL (or from when it was due) to the reply to the final dot.
 * It ends with status 1 if there was any error, or after 120 s.
 *
 * One thread, epoll, nothing allocated after the start but by TLS: what it costs is system calls.
 */
#define _GNU_SOURCE
#include <getopt.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "smtp_gen_io.h"

enum { MESSAGES_MAX = 2000000, RUN_SECONDS = 120 };

enum state { GREETING, HELLO, STARTTLS, HANDSHAKE, MAIL, RCPT, DATA, DOT, IDLE, QUIT };

static const int expected[] = {220, 250, 220, 0, 250, 250, 354, 250, 0, 221};

struct connection {
    struct stream stream;
    enum state state;
    char line[2048]; /* the reply line that is being read */
    size_t length;
    const char *out; /* what is still to be written */
    size_t out_length;
    uint32_t events; /* what is watched */
    double started;  /* when MAIL was sent, or due */
};

static const char EHLO[] = "EHLO client.example\r\n";
static const char START_TLS[] = "STARTTLS\r\n";
static const char MAIL_FROM[] = "MAIL FROM:<sender@personal.example>\r\n";
static const char RCPT_TO[] = "RCPT TO:<recipient@hospital.example>\r\n";
static const char DATA_[] = "DATA\r\n";
static const char ENVELOPE[] = "MAIL FROM:<sender@personal.example>\r\n"
                               "RCPT TO:<recipient@hospital.example>\r\nDATA\r\n";
static const char QUIT_[] = "QUIT\r\n";

/* From the command line. */
static long connection_count = 1, octets = 1024, wanted = MESSAGES_MAX;
static int is_new, is_pipelined, is_starttls, is_implicit;
static double seconds_max = RUN_SECONDS, rate;

static struct connection *connections, **idle;
static int epoll_fd, timer_fd = -1;
static char *message;
static size_t message_length;
static long started_count, done_count, error_count, open_count, idle_count;
static float *latencies;
static double start, last_reply, next_due;

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

static int is_over(void)
{
    return started_count >= wanted || now() - start >= seconds_max;
}

static void watch(struct connection *c, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (events == c->events)
        return;
    if (epoll_ctl(epoll_fd, c->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->stream.fd, &event) < 0)
        fail("epoll_ctl");
    c->events = events;
}

static void close_connection(struct connection *c)
{
    stream_close(&c->stream);
    open_count--;
}

static void open_connection(struct connection *c)
{
    stream_open(&c->stream);
    c->state = is_implicit ? HANDSHAKE : GREETING;
    c->length = 0;
    c->out_length = 0;
    c->events = 0;
    open_count++;
    watch(c, EPOLLIN | (is_implicit ? EPOLLOUT : 0)); /* the client speaks first in TLS */
}

/* Give up this connection; its message counts as an error and is not tried again. */
static void lose(struct connection *c, const char *why)
{
    if (error_count++ < 5)
        fprintf(stderr, "error in state %d: %s\n", c->state, why);
    close_connection(c);
    if (!is_over() && error_count < 1000)
        open_connection(c);
}

static void flush_output(struct connection *c)
{
    while (c->out_length > 0) {
        ssize_t n = stream_write(&c->stream, c->out, c->out_length);
        if (n == STREAM_END) {
            lose(c, stream_error());
            return;
        }
        if (n < 0) {
            watch(c, n == STREAM_WANTS_READ ? EPOLLIN : EPOLLIN | EPOLLOUT);
            return;
        }
        c->out += n;
        c->out_length -= (size_t)n;
    }
    watch(c, EPOLLIN);
}

static void say(struct connection *c, enum state next, const char *text, size_t length)
{
    c->state = next;
    c->out = text;
    c->out_length = length;
    flush_output(c);
}

/* A message is due after each of these; exponential, so that arrivals are a Poisson process. */
static double interval(void)
{
    return -log(1.0 - drand48()) / rate;
}

static void begin_message(struct connection *c)
{
    if (is_over()) {
        say(c, QUIT, QUIT_, sizeof QUIT_ - 1);
        return;
    }
    c->started = now();
    if (rate > 0) {
        if (next_due == 0)
            next_due = c->started + interval();
        if (next_due > c->started) {
            c->state = IDLE;
            idle[idle_count++] = c;
            return;
        }
        c->started = next_due;
        next_due += interval();
    }
    started_count++;
    if (is_pipelined)
        say(c, MAIL, ENVELOPE, sizeof ENVELOPE - 1);
    else
        say(c, MAIL, MAIL_FROM, sizeof MAIL_FROM - 1);
}

static void handshake(struct connection *c)
{
    int n = stream_handshake(&c->stream);
    if (n == STREAM_END)
        lose(c, stream_error());
    else if (n < 0)
        watch(c, n == STREAM_WANTS_READ ? EPOLLIN : EPOLLOUT);
    else if (is_implicit) {
        c->state = GREETING;
        watch(c, EPOLLIN);
    } else
        say(c, HELLO, EHLO, sizeof EHLO - 1);
}

/* A whole reply with the expected code has come. */
static void advance(struct connection *c)
{
    switch (c->state) {
    case GREETING:
        say(c, HELLO, EHLO, sizeof EHLO - 1);
        break;
    case HELLO:
        if (is_starttls && !c->stream.ssl)
            say(c, STARTTLS, START_TLS, sizeof START_TLS - 1);
        else
            begin_message(c);
        break;
    case STARTTLS:
        c->state = HANDSHAKE;
        handshake(c);
        break;
    case MAIL:
        if (is_pipelined)
            c->state = RCPT;
        else
            say(c, RCPT, RCPT_TO, sizeof RCPT_TO - 1);
        break;
    case RCPT:
        if (is_pipelined)
            c->state = DATA;
        else
            say(c, DATA, DATA_, sizeof DATA_ - 1);
        break;
    case DATA:
        say(c, DOT, message, message_length);
        break;
    case DOT:
        last_reply = now();
        latencies[done_count++] = (float)(last_reply - c->started);
        if (is_new)
            say(c, QUIT, QUIT_, sizeof QUIT_ - 1);
        else
            begin_message(c);
        break;
    case QUIT:
        close_connection(c);
        if (is_new && !is_over())
            open_connection(c);
        break;
    case HANDSHAKE:
    case IDLE: /* nothing is expected; handle_line has refused it */
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
    int fd = c->stream.fd;
    do { /* TLS may hold more than the socket shows */
        ssize_t n = stream_read(&c->stream, buffer, sizeof buffer);
        if (n == STREAM_END)
            lose(c, stream_error());
        if (n <= 0)
            return;
        for (ssize_t i = 0; i < n && c->stream.fd == fd; i++) {
            if (c->length < sizeof c->line - 1)
                c->line[c->length++] = buffer[i];
            if (buffer[i] == '\n')
                handle_line(c);
        }
    } while (c->stream.fd == fd && c->stream.ssl && c->state != HANDSHAKE);
}

static void handle_event(struct connection *c, uint32_t events)
{
    if (c->stream.fd >= 0 && c->state == HANDSHAKE) {
        handshake(c);
        return;
    }
    if (c->stream.fd >= 0 && c->out_length > 0)
        flush_output(c);
    if (c->stream.fd >= 0 && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        handle_input(c);
}

/* Give what is due to idle connections, and wake up when the next is; at the end say QUIT on all. */
static void pace(void)
{
    while (idle_count > 0 && (next_due <= now() || is_over())) {
        struct connection *c = idle[--idle_count];
        if (c->state == IDLE) /* else it was lost meanwhile */
            begin_message(c);
    }
    if (idle_count == 0)
        return;
    double at = fmin(next_due, start + seconds_max);
    struct itimerspec timer = {.it_value = {.tv_sec = (time_t)at,
                                            .tv_nsec = (long)((at - floor(at)) * 1e9)}};
    timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &timer, NULL);
}

static void begin_pacing(void)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    if (timer_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer_fd, &event) < 0)
        fail("timerfd");
    srand48(1); /* the same times in every run */
}

static int compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void make_message(size_t wanted_octets)
{
    static const char header[] =
        "From: <sender@personal.example>\r\nTo: <recipient@hospital.example>\r\n"
        "Subject: bench\r\nDate: Thu, 01 Jan 2026 00:00:00 +0000\r\n"
        "Message-Id: <bench@client.example>\r\n\r\n";
    static const char line[] =
        "0123456789012345678901234567890123456789012345678901234567890123456789012345\r\n";
    message = malloc(wanted_octets + sizeof header + sizeof line + 8);
    message_length = sizeof header - 1;
    memcpy(message, header, message_length);
    while (message_length < wanted_octets) {
        memcpy(message + message_length, line, sizeof line - 1);
        message_length += sizeof line - 1;
    }
    memcpy(message + message_length, ".\r\n", 3);
    message_length += 3;
}

static int usage(void)
{
    fprintf(stderr, "usage: smtp_gen PORT [--connections N] [--octets N] [--messages N] "
                    "[--seconds S] [--new] [--pipelined] [--tls starttls|implicit] [--rate R]\n");
    return 64;
}

/* Returns the port, or 0 if the command line cannot be understood. */
static uint16_t parse(int argc, char **argv)
{
    static const struct option options[] = {
        {"connections", required_argument, NULL, 'c'}, {"octets", required_argument, NULL, 'o'},
        {"messages", required_argument, NULL, 'm'},    {"seconds", required_argument, NULL, 's'},
        {"tls", required_argument, NULL, 't'},         {"rate", required_argument, NULL, 'r'},
        {"new", no_argument, &is_new, 1},              {"pipelined", no_argument, &is_pipelined, 1},
        {NULL, 0, NULL, 0}};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'c': connection_count = atol(optarg); break;
        case 'o': octets = atol(optarg); break;
        case 'm': wanted = atol(optarg); break;
        case 's': seconds_max = atof(optarg); break;
        case 'r': rate = atof(optarg); break;
        case 't':
            is_starttls = strcmp(optarg, "starttls") == 0;
            is_implicit = strcmp(optarg, "implicit") == 0;
            if (!is_starttls && !is_implicit)
                return 0;
            break;
        case '?': return 0;
        }
    }
    int is_sound = optind + 1 == argc && connection_count > 0 && octets > 0 && wanted > 0 &&
                   wanted <= MESSAGES_MAX && !(is_new && rate > 0);
    return is_sound ? (uint16_t)atoi(argv[optind]) : 0;
}

int main(int argc, char **argv)
{
    uint16_t port = parse(argc, argv);
    if (port == 0)
        return usage();
    make_message((size_t)octets);
    streams_begin(port, is_starttls || is_implicit);
    latencies = calloc((size_t)wanted + (size_t)connection_count, sizeof *latencies);
    connections = calloc((size_t)connection_count, sizeof *connections);
    idle = calloc((size_t)connection_count, sizeof *idle);
    epoll_fd = epoll_create1(0);
    start = now();
    if (rate > 0)
        begin_pacing();
    for (long i = 0; i < connection_count; i++)
        open_connection(&connections[i]);
    while (open_count > 0 && now() - start < RUN_SECONDS) {
        struct epoll_event events[256];
        int n = epoll_wait(epoll_fd, events, 256, 1000);
        for (int i = 0; i < n; i++)
            if (events[i].data.ptr)
                handle_event(events[i].data.ptr, events[i].events);
        if (rate > 0)
            pace();
    }
    long missing = started_count - done_count;
    qsort(latencies, (size_t)done_count, sizeof *latencies, compare);
    printf("{\"messages\": %ld, \"errors\": %ld, \"seconds\": %.6f, "
           "\"p50_seconds\": %.6f, \"p99_seconds\": %.6f}\n",
           done_count, error_count > missing ? error_count : missing, last_reply - start,
           done_count ? (double)latencies[done_count / 2] : 0.0,
           done_count ? (double)latencies[done_count * 99 / 100] : 0.0);
    return error_count == 0 && missing == 0 && done_count > 0 ? 0 : 1;
}
