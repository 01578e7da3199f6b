/* A host with an event loop of its own: one thread, many calls in flight, none of which it waits for. */
#include <inttypes.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "stokehold.h"

static stk_status primes_below(uintptr_t user, const stk_call *call, stk_reply *reply)
{
    int64_t n, found = 0;
    (void)user;
    if (stk_call_i64(call, 0, &n)) return STK_BAD_REQUEST;
    for (int64_t i = 2; i < n; i++) {
        int64_t d = 2;
        while (d * d <= i && i % d) d++;
        found += d * d > i;
    }
    return stk_reply_i64(reply, found);
}

int main(void)
{
    static const stk_app apps[] = {{.struct_size = sizeof(stk_app), .name = "primes", .call = primes_below}};
    static const int64_t limits[] = {10, 1000, 100000, 1000000};
    const uint64_t n = sizeof limits / sizeof *limits;
    struct epoll_event event = {.events = EPOLLIN | EPOLLET}; /* without EPOLLET it works as well */
    stk_error *e = NULL;
    stk_pool *pool;
    stk_client *client;
    stk_completions *completions;
    stk_completion done;

    if (stk_init(apps, 1, NULL, &e) || stk_pool_start(NULL, &pool, &e)) return stk_error_print(e);
    if (stk_client_new(pool, &client, &e) || stk_completions_new(client, &completions, &e)) return stk_error_print(e);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, stk_completions_fd(completions), &event)) return 1;

    for (uint64_t token = 0; token < n; token++) {
        stk_args *args = stk_args_new(client);
        stk_args_push_i64(args, limits[token]);
        if (stk_submit_to(client, STK_STR("primes"), STK_STR("below"), args, NULL, completions, token, &e))
            return stk_error_print(e);
    }
    while (stk_completions_in_flight(completions)) {
        while (stk_completions_next(completions, &done) == STK_OK) { /* until STK_PENDING, before each sleep */
            int64_t found = -1;
            if (done.status) return stk_error_print(done.error);
            stk_result_i64(done.result, &found);
            stk_result_free(done.result);
            printf("primes below %" PRId64 ": %" PRId64 "\n", limits[done.token], found);
        }
        if (stk_completions_in_flight(completions) && epoll_wait(epoll, &event, 1, -1) < 0) return 1;
    }
    stk_completions_free(completions), stk_client_free(client), stk_pool_free(pool);
    return close(epoll);
}
