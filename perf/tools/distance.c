/* A TCP proxy on loopback that makes a distance: what comes in at either side goes out at the other after a delay.
 *
 *   distance PORT MICROSECONDS
 *
 * It listens on a port of its own, prints it, and for each connection makes one to 127.0.0.1:PORT. Each direction is
 * delayed by MICROSECONDS; the order stays, and any number of bytes may be on their way. Connecting itself is not
 * delayed. It ends with the process that started it.
 *
 * All bytes wait equally long, so one queue holds them, and the oldest are the next that are due.
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
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { READ_AT_ONCE = 1 << 18, MOST_WAITING = 1 << 28, EVENTS = 256, UNWATCHED = -1 };

typedef struct chunk {
    struct chunk *next;       /* on the way, and then among what the receiver has not taken */
    struct end *to;
    uint64_t due;
    size_t length, sent;      /* of no length: the sender has ended its side */
    char bytes[];
} chunk;

typedef struct queue {
    chunk *first, *last;
} queue;

typedef struct end {          /* one socket of a connection; `other` is where its bytes go */
    struct end *other;
    struct end *next;         /* among the closed ones */
    queue taken;              /* what is due and does not fit into the socket */
    int descriptor, watched;
    int ended, shut, closed;  /* nothing more comes from the socket; nothing more goes into it; both */
    unsigned expected;        /* chunks that name this end */
} end;

static queue on_the_way;
static end *closed;           /* one end of each such connection, until no chunk and no event names the two */
static size_t waiting;
static uint64_t delay;
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

static void append(queue *into, chunk *added)
{
    added->next = NULL;
    if (into->last)
        into->last->next = added;
    else
        into->first = added;
    into->last = added;
}

static chunk *take(queue *from)
{
    chunk *taken = from->first;
    from->first = taken->next;
    if (!from->first)
        from->last = NULL;
    return taken;
}

static void drop(chunk *done)
{
    done->to->expected--;
    waiting -= done->length;
    free(done);
}

static void watch(end *one, int events)
{
    struct epoll_event event = {.events = (uint32_t)events, .data.ptr = one};
    if (one->watched == events || one->watched == UNWATCHED)
        return;
    if (epoll_ctl(poller, EPOLL_CTL_MOD, one->descriptor, &event))
        fail("epoll_ctl");
    one->watched = events;
}

/* A socket that has ended both ways would be told of again and again, while its other side has bytes to take. */
static void unwatch(end *one)
{
    epoll_ctl(poller, EPOLL_CTL_DEL, one->descriptor, NULL);
    one->watched = UNWATCHED;
}

static int interest(const end *one)
{
    return (one->ended || waiting > MOST_WAITING ? 0 : EPOLLIN) | (one->taken.first ? EPOLLOUT : 0);
}

static void close_both(end *one)
{
    end *both[] = {one, one->other};
    for (int side = 0; side < 2; side++) {
        both[side]->closed = both[side]->ended = 1;
        close(both[side]->descriptor);
        while (both[side]->taken.first)
            drop(take(&both[side]->taken));
    }
    one->next = closed;
    closed = one;
}

static void forget_closed(void)
{
    end **place = &closed;
    while (*place) {
        end *one = *place;
        if (one->expected || one->other->expected) {
            place = &one->next;
            continue;
        }
        *place = one->next;
        free(one->other);
        free(one);
    }
}

static void write_taken(end *one)
{
    while (!one->closed && one->taken.first) {
        chunk *next = one->taken.first;
        if (!next->length) {
            shutdown(one->descriptor, SHUT_WR);
            one->shut = 1;
        } else {
            ssize_t count = send(one->descriptor, next->bytes + next->sent, next->length - next->sent, MSG_NOSIGNAL);
            if (count < 0 && (errno == EAGAIN || errno == EINTR))
                break;
            if (count < 0) {
                close_both(one);
                return;
            }
            next->sent += (size_t)count;
            if (next->sent < next->length)
                break;
        }
        drop(take(&one->taken));
    }
    if (one->shut && one->other->shut && !one->closed)
        close_both(one);
    if (!one->closed)
        watch(one, interest(one));
}

static void read_from(end *one)
{
    static char buffer[READ_AT_ONCE];
    ssize_t count = recv(one->descriptor, buffer, sizeof buffer, 0);
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (count < 0) {
        close_both(one);
        return;
    }
    chunk *read = malloc(sizeof *read + (size_t)count);
    if (!read)
        fail("malloc");
    *read = (chunk){.to = one->other, .due = now() + delay, .length = (size_t)count};
    memcpy(read->bytes, buffer, (size_t)count);
    one->other->expected++;
    waiting += read->length;
    append(&on_the_way, read);
    if (!count) {
        one->ended = 1;
        watch(one, interest(one));
    }
}

static void hand_over(void)
{
    while (on_the_way.first && on_the_way.first->due <= now()) {
        chunk *due = take(&on_the_way);
        end *to = due->to;
        if (to->closed) {
            drop(due);
            continue;
        }
        append(&to->taken, due);
        if (to->taken.first == due) /* else the socket is full, and epoll tells when it is not */
            write_taken(to);
        if (!to->closed)
            watch(to->other, interest(to->other)); /* which may have been too far ahead to be read */
    }
}

static int socket_of(struct sockaddr_in *address, uint16_t port)
{
    int made = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
    address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (made < 0)
        fail("socket");
    return made;
}

static end *end_of(int descriptor)
{
    struct epoll_event event = {.events = EPOLLIN};
    int yes = 1;
    end *made = calloc(1, sizeof *made);
    if (!made)
        fail("calloc");
    made->descriptor = descriptor;
    made->watched = EPOLLIN;
    event.data.ptr = made;
    fcntl(descriptor, F_SETFL, O_NONBLOCK);
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (epoll_ctl(poller, EPOLL_CTL_ADD, descriptor, &event))
        fail("epoll_ctl");
    return made;
}

static void accept_one(int listener, uint16_t port)
{
    struct sockaddr_in address;
    int near = accept4(listener, NULL, NULL, SOCK_CLOEXEC), far;
    if (near < 0)
        return;
    far = socket_of(&address, port);
    if (connect(far, (struct sockaddr *)&address, sizeof address)) {
        close(near);
        close(far);
        return;
    }
    end *one = end_of(near), *other = end_of(far);
    one->other = other;
    other->other = one;
}

static void run(int listener, uint16_t port)
{
    struct epoll_event events[EVENTS];
    for (;;) {
        struct timespec pause = {0}, *wait = NULL;
        if (on_the_way.first) {
            uint64_t time = now(), due = on_the_way.first->due;
            pause.tv_nsec = due > time ? (long)((due - time) % 1000000000u) : 0;
            pause.tv_sec = due > time ? (time_t)((due - time) / 1000000000u) : 0;
            wait = &pause;
        }
        int count = epoll_pwait2(poller, events, EVENTS, wait, NULL);
        if (count < 0 && errno != EINTR)
            fail("epoll_pwait2");
        hand_over(); /* before more is read: what is due is older */
        for (int which = 0; which < count; which++) {
            end *one = events[which].data.ptr;
            if (!one) {
                accept_one(listener, port);
                continue;
            }
            if (!one->closed && events[which].events & EPOLLOUT)
                write_taken(one);
            if (!one->closed && events[which].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                one->ended ? unwatch(one) : read_from(one);
        }
        forget_closed();
    }
}

int main(int count, char **words)
{
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    struct epoll_event event = {.events = EPOLLIN};
    if (count != 3) {
        fputs("usage: distance PORT MICROSECONDS\n", stderr);
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    prctl(PR_SET_TIMERSLACK, 1000);
    setpriority(PRIO_PROCESS, 0, -10); /* where it may: a network does not wait for a processor */
    delay = (uint64_t)(atof(words[2]) * 1000);
    poller = epoll_create1(EPOLL_CLOEXEC);
    int listener = socket_of(&address, 0);
    if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 4096) ||
        getsockname(listener, (struct sockaddr *)&address, &length) ||
        epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event))
        fail("listen");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    run(listener, (uint16_t)atoi(words[1]));
}
