/* An open-loop load of HTTP/1.1: requests are sent when the plan says so, whatever became of those before.
 *
 *   open_loop PORT PLAN RESULTS
 *
 * PLAN (little-endian, made by perf/open_loop.py):
 *   u32 number of kinds, u32 most ms that a request may take, u64 number of requests;
 *   each kind: u32 connections, u32 number of messages, each message: u32 length, its bytes;
 *   each request, in the order of time: u64 ns from the start, u32 kind, u32 message.
 * RESULTS: for each request of the plan i64 ns from the planned time to the last byte of the answer; u16 status; u16
 *   whether it had to wait for a connection; u32 us that this program took it up late. In place of a status: 0 lost its
 *   connection, 1 took too long, 2 found no connection in time.
 *
 * A connection has one request at a time. One that is lost, or whose request took too long, is closed, and made anew
 * when it is wanted. Latencies count from the planned time, with the wait for a free connection where a kind has too
 * few of them; how long a request may take counts from its sending, and so long it may wait for a connection, too.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { LOST = 0, LATE = 1, NO_CONNECTION = 2, HEAD = 4096, EVENTS = 256, DISCARD = 1 << 20 };
static const uint64_t MS = 1000000u, NONE = UINT64_MAX;

typedef struct {
    uint32_t length;
    const char *bytes;
} message;

typedef struct {
    uint64_t planned;
    uint32_t kind, message;
} request;

typedef struct {
    int64_t took;
    uint16_t status, waited;
    uint32_t lag;
} result;

typedef struct connection {
    struct connection *next;      /* among the idle ones of its kind */
    struct connection *older, *newer; /* among those with a request, in the order of sending */
    uint64_t request, begun;      /* its place in the plan, or NONE; when it began to be sent */
    uint32_t kind, status, head, closes;
    int descriptor, events;       /* -1: it is made when wanted */
    size_t sent, left;            /* bytes sent of the request, bytes missing of the answer's body */
    char buffer[HEAD];
} connection;

typedef struct {
    uint32_t connections, messages;
    message *message;
    connection *idle;
    uint64_t first, last;         /* requests that wait for a connection: a list through `following` */
} kind;

static request *plan;
static result *results;
static uint64_t *following, requests, finished, start, patience;
static kind *kinds;
static connection *oldest, *newest;
static uint16_t port;
static int poller;

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void *zeroed(size_t count, size_t size)
{
    void *made = calloc(count ? count : 1, size);
    if (!made)
        fail("calloc");
    return made;
}

static void finish(uint64_t which, uint32_t status)
{
    results[which].took = (int64_t)(now() - start - plan[which].planned);
    results[which].status = (uint16_t)status;
    finished++;
}

static void watch(connection *one, int operation, int events)
{
    struct epoll_event event = {.events = (uint32_t)events, .data.ptr = one};
    if (operation == EPOLL_CTL_MOD && one->events == events)
        return;
    one->events = events;
    if (epoll_ctl(poller, operation, one->descriptor, &event))
        fail("epoll_ctl");
}

static void open_connection(connection *one)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int yes = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    one->descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (one->descriptor < 0)
        fail("socket");
    setsockopt(one->descriptor, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (connect(one->descriptor, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)
        fail("connect");
    watch(one, EPOLL_CTL_ADD, EPOLLIN);
}

static void unlink_busy(connection *one)
{
    *(one->older ? &one->older->newer : &oldest) = one->newer;
    *(one->newer ? &one->newer->older : &newest) = one->older;
    one->older = one->newer = NULL;
}

static void end(connection *one, uint32_t status);

/* Send what is missing of the request. False: the connection is lost. */
static int push(connection *one)
{
    const message *wanted = &kinds[one->kind].message[plan[one->request].message];
    while (one->sent < wanted->length) {
        ssize_t count = send(one->descriptor, wanted->bytes + one->sent, wanted->length - one->sent, MSG_NOSIGNAL);
        if (count < 0) {
            if (errno != EAGAIN && errno != EINTR)
                return 0;
            watch(one, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
            return 1;
        }
        one->sent += (size_t)count;
    }
    watch(one, EPOLL_CTL_MOD, EPOLLIN);
    return 1;
}

static void begin(connection *one, uint64_t which)
{
    if (one->descriptor < 0)
        open_connection(one);
    one->request = which;
    one->begun = now();
    one->sent = one->left = 0;
    one->head = one->status = one->closes = 0;
    one->older = newest;
    *(newest ? &newest->newer : &oldest) = one;
    newest = one;
    if (!push(one))
        end(one, LOST);
}

/* Give a free connection the request that has waited longest, or keep it for the next one. */
static void release(connection *one)
{
    kind *of = &kinds[one->kind];
    one->request = NONE;
    if (of->first != NONE) {
        uint64_t which = of->first;
        of->first = following[which];
        begin(one, which);
        return;
    }
    one->next = of->idle;
    of->idle = one;
}

static void drop(connection *one)
{
    close(one->descriptor);
    one->descriptor = -1;
}

/* The request of a connection is done with, and so is the connection unless it can go on. */
static void end(connection *one, uint32_t status)
{
    finish(one->request, status);
    unlink_busy(one);
    if (status < 100 || one->closes)
        drop(one);
    release(one);
}

static void plan_is_due(uint64_t which)
{
    kind *of = &kinds[plan[which].kind];
    connection *one = of->idle;
    results[which].lag = (uint32_t)((now() - start - plan[which].planned) / 1000);
    if (one) {
        of->idle = one->next;
        begin(one, which);
        return;
    }
    results[which].waited = 1;
    following[which] = NONE;
    *(of->first == NONE ? &of->first : &following[of->last]) = which;
    of->last = which;
}

/* Read the head's status and fields. False: it is not HTTP as this program knows it. */
static int read_head(connection *one, char *end)
{
    char *line = one->buffer, *next;
    size_t length = 0;
    int has_length = 0;
    if (strncmp(line, "HTTP/1.1 ", 9))
        return 0;
    one->status = (uint32_t)atoi(line + 9);
    for (line = strstr(line, "\r\n") + 2; line < end; line = next + 2) {
        next = strstr(line, "\r\n");
        if (!strncasecmp(line, "content-length:", 15)) {
            length = strtoull(line + 15, NULL, 10);
            has_length = 1;
        } else if (!strncasecmp(line, "connection:", 11) && strcasestr(line, "close") && strcasestr(line, "close") < next) {
            one->closes = 1;
        }
    }
    if (!has_length && one->status != 204 && one->status != 304)
        return 0;
    one->left = length;
    return 1;
}

/* Read of an answer what has come: the head is kept, the body dropped in the kernel. False: the connection is lost. */
static int pull(connection *one)
{
    for (;;) {
        ssize_t count;
        if (one->status) {
            count = recv(one->descriptor, NULL, one->left < DISCARD ? one->left : DISCARD, MSG_TRUNC);
            if (count > 0)
                one->left -= (size_t)count;
        } else {
            count = recv(one->descriptor, one->buffer + one->head, HEAD - 1 - one->head, 0);
            if (count > 0) {
                one->head += (uint32_t)count;
                one->buffer[one->head] = 0;
                char *end = strstr(one->buffer, "\r\n\r\n");
                if (!end && one->head == HEAD - 1)
                    return 0;
                if (end) {
                    size_t body = one->head - (size_t)(end + 4 - one->buffer);
                    if (!read_head(one, end + 2) || body > one->left)
                        return 0;
                    one->left -= body;
                }
            }
        }
        if (count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR))
            return 0;
        if (one->status && !one->left) {
            end(one, one->status);
            return 1;
        }
        if (count < 0)
            return 1;
    }
}

static void on_event(connection *one, uint32_t events)
{
    if (one->request == NONE) /* the server has closed an idle connection */
        drop(one);
    else if ((events & EPOLLOUT && !push(one)) || (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && !pull(one)))
        end(one, LOST);
}

static void give_up(uint64_t time)
{
    while (oldest && oldest->begun + patience < time)
        end(oldest, LATE);
    for (kind *of = kinds; of->messages; of++)
        while (of->first != NONE && start + plan[of->first].planned + patience < time) {
            uint64_t which = of->first;
            of->first = following[which];
            finish(which, NO_CONNECTION);
        }
}

static void run(void)
{
    struct epoll_event events[EVENTS];
    uint64_t next = 0, looked = 0;
    start = now() + 100 * MS;
    while (finished < requests) {
        uint64_t time = now(), until = time + 10 * MS;
        for (; next < requests && start + plan[next].planned <= time; next++)
            plan_is_due(next);
        if (next < requests && start + plan[next].planned < until)
            until = start + plan[next].planned;
        if (time - looked > 10 * MS) {
            give_up(time);
            looked = time;
        }
        time = now();
        struct timespec pause = {.tv_nsec = until > time ? (long)(until - time) : 0};
        int count = epoll_pwait2(poller, events, EVENTS, &pause, NULL);
        if (count < 0 && errno != EINTR)
            fail("epoll_pwait2");
        for (int which = 0; which < count; which++)
            on_event(events[which].data.ptr, events[which].events);
    }
}

static const char *read_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    struct stat about;
    if (!file || fstat(fileno(file), &about))
        fail(path);
    char *content = zeroed((size_t)about.st_size + 1, 1);
    if (fread(content, 1, (size_t)about.st_size, file) != (size_t)about.st_size)
        fail(path);
    fclose(file);
    return content;
}

static uint64_t number(const char **at, size_t size)
{
    uint64_t value = 0;
    memcpy(&value, *at, size);
    *at += size;
    return value;
}

static void read_plan(const char *at)
{
    uint32_t count = (uint32_t)number(&at, 4);
    patience = number(&at, 4) * MS;
    requests = number(&at, 8);
    kinds = zeroed(count + 1, sizeof *kinds); /* the last has no messages */
    for (kind *of = kinds; of < kinds + count; of++) {
        of->first = NONE;
        of->connections = (uint32_t)number(&at, 4);
        of->messages = (uint32_t)number(&at, 4);
        of->message = zeroed(of->messages, sizeof *of->message);
        for (message *each = of->message; each < of->message + of->messages; each++) {
            each->length = (uint32_t)number(&at, 4);
            each->bytes = at;
            at += each->length;
        }
    }
    plan = zeroed(requests, sizeof *plan);
    memcpy(plan, at, requests * sizeof *plan);
    results = zeroed(requests, sizeof *results);
    following = zeroed(requests, sizeof *following);
    for (kind *of = kinds; of->messages; of++)
        for (uint32_t each = 0; each < of->connections; each++) {
            connection *one = zeroed(1, sizeof *one);
            one->kind = (uint32_t)(of - kinds);
            open_connection(one);
            release(one);
        }
}

int main(int count, char **words)
{
    struct rlimit files;
    if (count != 4) {
        fputs("usage: open_loop PORT PLAN RESULTS\n", stderr);
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    prctl(PR_SET_TIMERSLACK, 1000);
    setpriority(PRIO_PROCESS, 0, -10); /* where it may: clients elsewhere do not wait for this processor */
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    poller = epoll_create1(EPOLL_CLOEXEC);
    port = (uint16_t)atoi(words[1]);
    read_plan(read_file(words[2]));
    run();
    FILE *written = fopen(words[3], "wb");
    if (!written || fwrite(results, sizeof *results, requests, written) != requests || fclose(written))
        fail(words[3]);
    return 0;
}
