/* A UDP echo on epoll, a socket per call: what packets cost on this machine, in any language.

       epoll_echo CALLS

   Prints {"ports": [...]} and echoes until standard input ends. */

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static int fail(const char *what)
{
    perror(what);
    return 1;
}

int main(int argc, char **argv)
{
    int calls = argc > 1 ? atoi(argv[1]) : 1;
    int queue = epoll_create1(EPOLL_CLOEXEC);
    if (queue < 0)
        return fail("epoll_create1");
    struct epoll_event input = {.events = EPOLLIN, .data.fd = STDIN_FILENO};
    if (epoll_ctl(queue, EPOLL_CTL_ADD, STDIN_FILENO, &input) < 0)
        return fail("epoll_ctl");
    printf("{\"ports\": [");
    for (int call = 0; call < calls; call++) {
        int made = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t length = sizeof address;
        if (made < 0 || bind(made, (struct sockaddr *)&address, sizeof address) < 0)
            return fail("bind");
        if (getsockname(made, (struct sockaddr *)&address, &length) < 0)
            return fail("getsockname");
        struct epoll_event readable = {.events = EPOLLIN, .data.fd = made};
        if (epoll_ctl(queue, EPOLL_CTL_ADD, made, &readable) < 0)
            return fail("epoll_ctl");
        printf("%s%d", call ? ", " : "", ntohs(address.sin_port));
    }
    printf("]}\n");
    fflush(stdout);
    for (;;) {
        struct epoll_event ready[64];
        int count = epoll_wait(queue, ready, 64, -1);
        for (int index = 0; index < count; index++) {
            int from = ready[index].data.fd;
            if (from == STDIN_FILENO)
                return 0;
            char data[2048];
            struct sockaddr_in sender;
            socklen_t length = sizeof sender;
            ssize_t size = recvfrom(from, data, sizeof data, 0, (struct sockaddr *)&sender, &length);
            if (size >= 0)
                sendto(from, data, (size_t)size, 0, (struct sockaddr *)&sender, length);
        }
    }
}
