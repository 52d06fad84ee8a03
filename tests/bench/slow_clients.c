/*
 * Slow clients: thousands of sessions that hold their place and bring nothing.
 *
 * usage: slow_clients PORT TLS_PORT COUNT RATE SECONDS PACE PLACES KINDS
 *
 * COUNT sessions, KINDS of them in equal parts, one letter each:
 *
 *   i  idle: connects and says nothing
 *   c  command: one octet of a command line every PACE milliseconds
 *   d  data: MAIL, RCPT, DATA, and then one octet of mail data every PACE milliseconds
 *   h  hello: one octet of a TLS hello every PACE milliseconds, to TLS_PORT
 *   r  reader: 100 EHLOs in one piece, and never reads what is said to them
 *   f  flood: connects, and goes as soon as it has heard one line, whatever that says
 *
 * Who is thrown out or turned away comes back; all of them together make RATE connections a second
 * at most. PLACES says where from: "wide", an address for each session in 250 networks of 127/8;
 * "network", 250 addresses of one /24; "one", a single address; or a number of addresses in 250
 * networks.
 *
 * Each second a line of JSON on standard output: seconds since the start and, for each kind in the
 * order of KINDS, how many are connected, have been let in, turned away and thrown out so far, and the
 * longest, in seconds, that one which was thrown out had lasted. "Let in" is a first line other than
 * 4xx; of hello and reader, which hear nothing, half a second. It ends after SECONDS.
 *
 * One thread, epoll; connections end with RST, so that none of them is left behind in TIME-WAIT.
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
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { NETWORKS = 250, KINDS_MAX = 8, REPLY_MAX = 512, SMALL_BUFFER = 4096 };

/* How a session without a word is told from one that was refused. */
static const double LET_IN_AFTER = 0.5;

enum stage { AWAY, CONNECTING, DIALOG, HOLDING };

struct client {
    int fd;
    int kind; /* index into kinds */
    uint32_t address;
    enum stage stage;
    int is_let_in;
    double since, next;
    size_t dripped;
    char line[REPLY_MAX]; /* the reply line that is being read */
    size_t length;
};

struct tally {
    long connected, let_in, turned_away, thrown_out;
    double longest;
};

static const char ENVELOPE[] = "EHLO slow.example\r\nMAIL FROM:<slow@telework.example>\r\n"
                               "RCPT TO:<slow@hospital.example>\r\nDATA\r\n";
static const char COMMAND[] = "NOOP ";
static const char MAIL_DATA[] = "Subject: ";
/* A handshake record of 512 octets, with a ClientHello of TLS 1.2 in it. */
static const unsigned char HELLO[] = {0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3};

static struct client *clients;
static struct tally tallies[KINDS_MAX];
static const char *kinds;
static int epoll_fd;
static struct sockaddr_in plain, secure;
static char greetings[100 * 20];
static long failures;

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

static void go_away(struct client *c, double at)
{
    struct tally *tally = &tallies[c->kind];
    if (c->is_let_in) {
        tally->thrown_out++;
        if (at - c->since > tally->longest)
            tally->longest = at - c->since;
    } else {
        tally->turned_away++;
    }
    if (c->stage != CONNECTING)
        tally->connected--;
    close(c->fd);
    c->fd = -1;
    c->stage = AWAY;
}

static void come(struct client *c)
{
    int one = 1, small = SMALL_BUFFER;
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(c->address)};
    struct sockaddr_in *there = kinds[c->kind] == 'h' ? &secure : &plain;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0)
        fail("socket");
    setsockopt(c->fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (kinds[c->kind] == 'r') {
        /* A server that has given up may not be able to tell: its FIN waits behind its replies. */
        int idle = 5;
        setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
        setsockopt(c->fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
        setsockopt(c->fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
        setsockopt(c->fd, IPPROTO_TCP, TCP_KEEPINTVL, &idle, sizeof idle);
    }
    if (bind(c->fd, (struct sockaddr *)&here, sizeof here) < 0)
        fail("bind");
    if (connect(c->fd, (struct sockaddr *)there, sizeof *there) < 0 && errno != EINPROGRESS) {
        failures++; /* no port left, for a moment */
        close(c->fd);
        c->fd = -1;
        return;
    }
    c->stage = CONNECTING;
    c->since = now();
    c->is_let_in = 0;
    c->dripped = c->length = 0;
    struct epoll_event event = {.events = EPOLLOUT | EPOLLRDHUP, .data.ptr = c};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event) < 0)
        fail("epoll_ctl");
}

static void hold(struct client *c, double at, double pace)
{
    c->stage = HOLDING;
    c->next = at + pace;
}

/* What the kind says first; most have to be greeted before. */
static void connected(struct client *c, double at, double pace)
{
    uint32_t wanted = EPOLLRDHUP | (kinds[c->kind] == 'r' ? 0 : EPOLLIN);
    struct epoll_event event = {.events = wanted, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event);
    tallies[c->kind].connected++;
    c->stage = DIALOG;
    c->since = at;
    if (kinds[c->kind] == 'h') {
        hold(c, at, pace);
    } else if (kinds[c->kind] == 'r') {
        send(c->fd, greetings, strlen(greetings), MSG_NOSIGNAL);
        hold(c, at, pace);
    }
}

static void heard(struct client *c, double at, double pace)
{
    int code = atoi(c->line);
    int is_first = !c->is_let_in;
    if (code >= 400 || kinds[c->kind] == 'f') {
        if (kinds[c->kind] == 'f' && code < 400)
            tallies[c->kind].let_in++, c->is_let_in = 1;
        go_away(c, at);
        return;
    }
    if (is_first) {
        c->is_let_in = 1;
        tallies[c->kind].let_in++;
        if (kinds[c->kind] == 'd')
            send(c->fd, ENVELOPE, sizeof ENVELOPE - 1, MSG_NOSIGNAL);
        else
            hold(c, at, pace);
    } else if (code == 354) {
        hold(c, at, pace);
    }
}

static void read_replies(struct client *c, double at, double pace)
{
    char buffer[2048];
    int fd = c->fd;
    ssize_t n = recv(fd, buffer, sizeof buffer, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        go_away(c, at);
        return;
    }
    for (ssize_t i = 0; i < n && c->fd == fd; i++) {
        if (c->length < sizeof c->line - 1)
            c->line[c->length++] = buffer[i];
        if (buffer[i] == '\n') {
            c->line[c->length] = 0;
            c->length = 0;
            heard(c, at, pace);
        }
    }
}

static void drip(struct client *c, double at, double pace)
{
    static const char filler = 'x';
    const char *text = &filler;
    size_t length = 0;
    c->next = at + pace;
    switch (kinds[c->kind]) {
    case 'c':
        text = COMMAND, length = sizeof COMMAND - 1;
        break;
    case 'd':
        text = MAIL_DATA, length = sizeof MAIL_DATA - 1;
        break;
    case 'h':
        text = (const char *)HELLO, length = sizeof HELLO;
        break;
    default:
        return;
    }
    const char *octet = c->dripped < length ? text + c->dripped : &filler;
    c->dripped++;
    if (send(c->fd, octet, 1, MSG_NOSIGNAL) < 0 && errno != EAGAIN)
        go_away(c, at);
}

static void report(double seconds)
{
    printf("{\"seconds\": %.2f, \"failures\": %ld, \"kinds\": {", seconds, failures);
    for (int i = 0; kinds[i]; i++) {
        const struct tally *t = &tallies[i];
        printf("%s\"%c\": {\"connected\": %ld, \"let_in\": %ld, \"turned_away\": %ld, "
               "\"thrown_out\": %ld, \"longest\": %.2f}",
               i ? ", " : "", kinds[i], t->connected, t->let_in, t->turned_away, t->thrown_out,
               t->longest);
    }
    printf("}}\n");
    fflush(stdout);
}

/* Each kind comes from all networks. */
static uint32_t address_of(long number, const char *places)
{
    uint32_t loopback = 127u << 24, first = loopback | 1u << 16;
    if (strcmp(places, "one") == 0)
        return first | 1u << 8 | 1u;
    if (strcmp(places, "network") == 0)
        return first | 1u << 8 | (uint32_t)(1 + number % 250);
    if (strcmp(places, "wide") != 0)
        number %= atol(places);
    long kind_count = (long)strlen(kinds), each = number / kind_count;
    long row = each / NETWORKS * kind_count + number % kind_count;
    return loopback | (uint32_t)(1 + row / 250) << 16 | (uint32_t)(each % NETWORKS) << 8
           | (uint32_t)(1 + row % 250);
}

int main(int argc, char **argv)
{
    if (argc != 9) {
        fprintf(stderr, "usage: slow_clients PORT TLS_PORT COUNT RATE SECONDS PACE PLACES KINDS\n");
        return 64;
    }
    plain.sin_family = secure.sin_family = AF_INET;
    plain.sin_addr.s_addr = secure.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    plain.sin_port = htons((uint16_t)atoi(argv[1]));
    secure.sin_port = htons((uint16_t)atoi(argv[2]));
    long count = atol(argv[3]), next = 0;
    double rate = atof(argv[4]), seconds = atof(argv[5]), pace = atof(argv[6]) / 1000, allowance = 0;
    kinds = argv[8];
    if (strlen(kinds) > KINDS_MAX)
        return 64;
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    for (int i = 0; i < 100; i++)
        strcat(greetings, "EHLO slow.example\r\n");
    clients = calloc((size_t)count, sizeof *clients);
    for (long i = 0; i < count; i++) {
        clients[i].fd = -1;
        clients[i].kind = (int)(i % (long)strlen(kinds));
        clients[i].address = address_of(i, argv[7]);
    }
    epoll_fd = epoll_create1(0);
    double start = now(), last = start, ticked = start, reported = start;
    for (double at = start; at - start < seconds; at = now()) {
        struct epoll_event events[512];
        int n = epoll_wait(epoll_fd, events, 512, 10);
        for (int i = 0; i < n; i++) {
            struct client *c = events[i].data.ptr;
            uint32_t what = events[i].events;
            if (c->fd >= 0 && c->stage == CONNECTING && what & EPOLLOUT && !(what & EPOLLERR))
                connected(c, at, pace);
            if (c->fd >= 0 && what & EPOLLIN)
                read_replies(c, at, pace);
            if (c->fd >= 0 && what & (EPOLLHUP | EPOLLERR | EPOLLRDHUP) && !(what & EPOLLIN))
                go_away(c, at);
        }
        /* Not all of a second's connections at once, and none that was not used is saved up. */
        allowance += rate * (at - last);
        last = at;
        if (allowance > rate / 20 + 1)
            allowance = rate / 20 + 1;
        for (long looked = 0; allowance >= 1 && looked < count; looked++) {
            struct client *c = &clients[next];
            next = (next + 1) % count;
            if (c->stage == AWAY) {
                come(c);
                allowance -= 1;
            }
        }
        if (at - ticked >= 0.05) {
            ticked = at;
            for (long i = 0; i < count; i++) {
                struct client *c = &clients[i];
                if (c->stage == HOLDING && at >= c->next)
                    drip(c, at, pace);
                if (c->stage == HOLDING && !c->is_let_in && at - c->since > LET_IN_AFTER) {
                    c->is_let_in = 1;
                    tallies[c->kind].let_in++;
                }
            }
        }
        if (at - reported >= 1) {
            reported = at;
            report(at - start);
        }
    }
    report(now() - start);
    return 0;
}
