/* A host with eight busy threads, one client for all of them: each lends a block that a worker sums up in place. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "stokehold.h"
enum { THREADS = 8, ROUNDS = 50, SIZE = 1 << 20 };
static stk_client *client; /* for all threads */

static stk_status sum(uintptr_t user, const stk_call *call, stk_reply *reply)
{
    stk_bytes block;
    int64_t total = (int64_t)user;
    if (stk_call_bytes(call, 0, &block)) return STK_BAD_REQUEST; /* the caller's memory, not a copy */
    for (size_t i = 0; i < block.len; i++) total += ((const unsigned char *)block.data)[i];
    return stk_reply_i64(reply, total);
}

static void *busy(void *number)
{
    const int value = *(const int *)number;
    for (int round = 0; round < ROUNDS; round++) {
        stk_error *e = NULL;
        stk_result *result;
        stk_lease lease;
        int64_t total;
        if (stk_lease_new(client, SIZE, &lease, &e)) return stk_error_print(e), NULL;
        memset(lease.data, value, lease.size); /* or read a file straight into it */
        stk_args *args = stk_args_new(client);
        stk_args_push_lease(args, lease), stk_lease_release(lease); /* args keep its memory until the call has ended */
        const stk_options options = {.struct_size = sizeof options, .deadline_ms = 60000};
        stk_execute(client, STK_STR("sum"), STK_STR(""), args, &options, &result, &e);
        if (e) return stk_error_print(e), NULL;
        const stk_status bad = stk_result_i64(result, &total);
        stk_result_free(result);
        if (bad || total != (int64_t)value * SIZE) return NULL;
    }
    return number;
}

int main(void)
{
    static const stk_app apps[] = {{.struct_size = sizeof(stk_app), .name = "sum", .call = sum}};
    pthread_t threads[THREADS];
    int numbers[THREADS], good = 0;
    stk_pool *pool;
    stk_error *e = NULL;
    if (stk_init(apps, 1, NULL, &e)) return stk_error_print(e);
    if (stk_pool_start(NULL, &pool, &e) || stk_client_new(pool, &client, &e)) return stk_error_print(e);
    for (int i = 0; i < THREADS; i++)
        if (numbers[i] = i, pthread_create(&threads[i], NULL, busy, &numbers[i])) return 1;
    for (int i = 0; i < THREADS; i++) {
        void *number = NULL;
        good += pthread_join(threads[i], &number) == 0 && number == &numbers[i];
    }
    printf("%d of %d threads: %d calls of %d bytes each\n", good, THREADS, ROUNDS, SIZE);
    stk_client_free(client), stk_pool_free(pool);
    return good != THREADS;
}
