/*
 * SMTP server of known capacity, for the overload bench: so many messages at a time, each for so
 * long, first come, first served.
 *
 * usage: smtp_server PORT CONTROL LOG
 *
 * It takes any number of connections and all mail, as fast as it comes. At the final dot a message
 * joins one queue for all connections; SERVERS of them at a time are in service, each for SERVICE
 * microseconds, and then the 250 goes out. So the capacity is SERVERS / SERVICE, exactly: a server
 * that comes free begins with the next message at the moment at which it was due to be free, not at
 * the moment at which this process noticed. Whoever keeps more than SERVERS messages here has
 * queued the rest where nobody can tell them apart: that is the point of it.
 *
 * CONTROL is a file mapped into memory (struct control, native byte order): the bench writes the
 * first two numbers, before the start and while it runs, and reads the others. Fewer servers do not
 * break off what is in service.
 *
 * LOG gets a line for each recipient of a message at its 250: the local part of the address, and
 * when the message was received, began to be served and was answered (Unix time in microseconds).
 * A message whose client has gone meanwhile is served all the same, as a mail server would.
 *
 * One thread, epoll. A connection is not read from while its message waits for its 250; what came
 * after the dot (RFC 2920 allows QUIT there) is kept until then.
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
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    TERMINATOR_LENGTH = 5,
    IDENTITY_MAX = 64,   /* RFC 5321, 4.5.3.1.1 */
    RECIPIENTS_MAX = 100,/* RFC 5321, 4.5.3.1.8 */
    SERVERS_MAX = 1024,
    INPUT_MAX = 64 * 1024,
    POLL_NANOSECONDS = 5 * 1000 * 1000 /* how soon a change of CONTROL is seen */
};
static const char TERMINATOR[] = "\r\n.\r\n";

struct control {
    uint64_t servers; /* written by the bench */
    uint64_t service; /* microseconds; written by the bench */
    uint64_t taken;   /* messages answered */
    uint64_t busy;    /* messages in service */
    uint64_t waiting; /* messages behind them */
    uint64_t connections;
};

struct message {
    struct connection *from; /* NULL: gone */
    struct message *next;
    char (*identities)[IDENTITY_MAX + 1];
    int recipients;
    int64_t received, started, due; /* monotonic nanoseconds */
};

struct connection {
    int fd;
    int in_data;
    int matched; /* octets of the terminator seen so far */
    int is_broken;
    struct message *pending; /* waits for its 250 */
    char line[1024];
    size_t length;
    char (*identities)[IDENTITY_MAX + 1]; /* of the transaction under way */
    int recipients;
    char *rest; /* what came after the dot */
    size_t rest_length;
    char output[4096];
    size_t output_length;
};

static int epoll_fd, log_fd;
static struct control *control;
static struct message *queue_head, **queue_tail = &queue_head;
static struct message *in_service[SERVERS_MAX];
static uint64_t busy;
static int64_t wall_offset; /* Unix time minus monotonic time, nanoseconds */
static char input[INPUT_MAX];

static void fail(const char *what)
{
    perror(what);
    exit(2);
}

static int64_t clock_ns(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (!memory)
        fail("calloc");
    return memory;
}

static void reply(struct connection *c, const char *text)
{
    size_t length = strlen(text);
    if (c->output_length + length <= sizeof c->output) {
        memcpy(c->output + c->output_length, text, length);
        c->output_length += length;
    }
}

/* Replies are short and the client reads them: a full socket buffer means a broken client. */
static void send_replies(struct connection *c)
{
    if (!c->output_length)
        return;
    ssize_t n = send(c->fd, c->output, c->output_length, MSG_NOSIGNAL);
    if (n != (ssize_t)c->output_length)
        c->is_broken = 1;
    c->output_length = 0;
}

static void listen_to(struct connection *c, int is_wanted)
{
    struct epoll_event event = {.events = is_wanted ? EPOLLIN : 0, .data.ptr = c};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event) < 0)
        fail("epoll_ctl");
}

static void drop(struct connection *c)
{
    if (c->pending)
        c->pending->from = NULL;
    close(c->fd);
    control->connections--;
    free(c->identities);
    free(c->rest);
    free(c);
}

/* --- the station: a queue and its servers --- */

static void begin(struct message *m, int64_t when)
{
    m->started = when;
    m->due = when + (int64_t)control->service * 1000;
    in_service[busy++] = m;
}

static void arrive(struct connection *c, int64_t now)
{
    struct message *m = allocate(1, sizeof *m);
    m->from = c;
    m->received = now;
    m->identities = c->identities;
    m->recipients = c->recipients;
    c->identities = NULL;
    c->recipients = 0;
    c->pending = m;
    *queue_tail = m;
    queue_tail = &m->next;
    control->waiting++;
}

/* Free servers take who is next; `when` is the moment at which the last one came free. */
static void begin_next(int64_t when)
{
    while (queue_head && busy < control->servers && busy < SERVERS_MAX) {
        struct message *m = queue_head;
        queue_head = m->next;
        if (!queue_head)
            queue_tail = &queue_head;
        control->waiting--;
        begin(m, m->received > when ? m->received : when);
    }
    control->busy = busy;
}

/* What came after the dot is to be read now. */
static void handle_input(struct connection *c, const char *data, size_t n, int64_t now);

static void write_log(const struct message *m, int64_t now)
{
    char text[RECIPIENTS_MAX * (IDENTITY_MAX + 64)];
    size_t length = 0;
    for (int i = 0; i < m->recipients; i++)
        length += (size_t)snprintf(text + length, sizeof text - length, "%s %lld %lld %lld\n",
                                   m->identities[i], (long long)((m->received + wall_offset) / 1000),
                                   (long long)((m->started + wall_offset) / 1000),
                                   (long long)((now + wall_offset) / 1000));
    if (write(log_fd, text, length) != (ssize_t)length)
        fail("write to the log");
}

static void answer(struct message *m, int64_t now)
{
    struct connection *c = m->from;
    write_log(m, now);
    control->taken++;
    free(m->identities);
    free(m);
    if (!c)
        return;
    c->pending = NULL;
    reply(c, "250 2.0.0 Ok: taken\r\n");
    send_replies(c);
    listen_to(c, 1);
    if (c->rest) {
        char *rest = c->rest;
        size_t length = c->rest_length;
        c->rest = NULL;
        handle_input(c, rest, length, now);
        free(rest);
    }
    if (c->is_broken)
        drop(c);
}

/* The index of the message that is ready first, or -1. */
static int first_due(void)
{
    int first = -1;
    for (uint64_t i = 0; i < busy; i++)
        if (first < 0 || in_service[i]->due < in_service[first]->due)
            first = (int)i;
    return first;
}

/* End what is due, in order, and let others begin; returns nanoseconds until the next. */
static int64_t serve(int64_t now)
{
    begin_next(now); /* the bench may have given us more servers */
    for (;;) {
        int first = first_due();
        if (first < 0)
            return POLL_NANOSECONDS;
        struct message *m = in_service[first];
        if (m->due > now)
            return m->due - now < POLL_NANOSECONDS ? m->due - now : POLL_NANOSECONDS;
        in_service[first] = in_service[--busy];
        begin_next(m->due);
        answer(m, now);
    }
}

/* --- the dialog --- */

static void recipient(struct connection *c)
{
    char *start = strchr(c->line, '<');
    char *end = start ? strpbrk(start + 1, "@>") : NULL;
    if (!end || end - start - 1 > IDENTITY_MAX) {
        reply(c, "501 5.1.3 Bad address\r\n");
        return;
    }
    if (c->recipients == RECIPIENTS_MAX) {
        reply(c, "452 4.5.3 Too many recipients\r\n");
        return;
    }
    if (!c->identities)
        c->identities = allocate(RECIPIENTS_MAX, sizeof *c->identities);
    memcpy(c->identities[c->recipients], start + 1, (size_t)(end - start - 1));
    c->identities[c->recipients++][end - start - 1] = 0;
    reply(c, "250 2.1.5 Ok\r\n");
}

static void forget(struct connection *c)
{
    free(c->identities);
    c->identities = NULL;
    c->recipients = 0;
}

static void command(struct connection *c)
{
    c->line[c->length] = 0;
    c->length = 0;
    if (!strncasecmp(c->line, "EHLO", 4) || !strncasecmp(c->line, "HELO", 4))
        reply(c, "250-server.example\r\n250-PIPELINING\r\n250-SIZE 52428800\r\n250 8BITMIME\r\n");
    else if (!strncasecmp(c->line, "MAIL", 4)) {
        forget(c);
        reply(c, "250 2.1.0 Ok\r\n");
    } else if (!strncasecmp(c->line, "RCPT", 4))
        recipient(c);
    else if (!strncasecmp(c->line, "DATA", 4) && !c->recipients)
        reply(c, "503 5.5.1 No recipients\r\n");
    else if (!strncasecmp(c->line, "DATA", 4)) {
        reply(c, "354 End data with <CR><LF>.<CR><LF>\r\n");
        c->in_data = 1;
        c->matched = 2; /* the CRLF of DATA counts for an empty message (RFC 5321, 4.1.1.4) */
    } else if (!strncasecmp(c->line, "RSET", 4)) {
        forget(c);
        reply(c, "250 2.0.0 Ok\r\n");
    } else if (!strncasecmp(c->line, "QUIT", 4)) {
        reply(c, "221 2.0.0 Bye\r\n");
        send_replies(c);
        c->is_broken = 1;
    } else
        reply(c, "250 2.0.0 Ok\r\n");
}

/* Skip mail data; returns how many octets of `data` belong to it. */
static size_t skip_data(struct connection *c, const char *data, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (data[i] == TERMINATOR[c->matched])
            c->matched++;
        else
            c->matched = data[i] == '\r';
        if (c->matched == TERMINATOR_LENGTH) {
            c->in_data = 0;
            return i + 1;
        }
    }
    return length;
}

static void handle_input(struct connection *c, const char *data, size_t n, int64_t now)
{
    for (size_t i = 0; i < n && !c->is_broken;) {
        if (c->in_data) {
            i += skip_data(c, data + i, n - i);
            if (c->in_data)
                continue;
            if (i < n) {
                c->rest = allocate(n - i, 1);
                c->rest_length = n - i;
                memcpy(c->rest, data + i, n - i);
            }
            arrive(c, now);
            listen_to(c, 0);
            break;
        }
        if (c->length < sizeof c->line - 1)
            c->line[c->length++] = data[i];
        if (data[i++] == '\n')
            command(c);
    }
    send_replies(c);
}

static void receive(struct connection *c, int64_t now)
{
    if (c->pending) { /* the connection was reset while its message waits */
        drop(c);
        return;
    }
    ssize_t n = recv(c->fd, input, sizeof input, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n > 0)
        handle_input(c, input, (size_t)n, now);
    if (n <= 0 || c->is_broken)
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
        struct connection *c = allocate(1, sizeof *c);
        c->fd = fd;
        control->connections++;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
            fail("epoll_ctl");
        reply(c, "220 server.example ESMTP\r\n");
        send_replies(c);
        if (c->is_broken)
            drop(c);
    }
}

static int make_listener(const char *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)atoi(port)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(listener, 4096) < 0)
        fail("listen");
    return listener;
}

static void open_files(const char *control_path, const char *log_path)
{
    int file = open(control_path, O_RDWR);
    if (file < 0)
        fail(control_path);
    control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (control == MAP_FAILED)
        fail("mmap");
    log_fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (log_fd < 0)
        fail(log_path);
}

int main(int argc, char **argv)
{
    struct rlimit files;
    if (argc != 4) {
        fprintf(stderr, "usage: smtp_server PORT CONTROL LOG\n");
        return 64;
    }
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    open_files(argv[2], argv[3]);
    int listener = make_listener(argv[1]);
    epoll_fd = epoll_create1(0);
    wall_offset = clock_ns(CLOCK_REALTIME) - clock_ns(CLOCK_MONOTONIC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        struct epoll_event events[256];
        int64_t pause = serve(clock_ns(CLOCK_MONOTONIC));
        struct timespec timeout = {.tv_sec = 0, .tv_nsec = pause};
        int n = epoll_pwait2(epoll_fd, events, 256, &timeout, NULL);
        int64_t now = clock_ns(CLOCK_MONOTONIC);
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr)
                receive(events[i].data.ptr, now);
            else
                accept_all(listener);
        }
    }
}
