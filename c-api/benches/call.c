/* What a call costs from C, against the same call from Rust, over the same client and worker and in turns: the C twin of
 * `stokehold bench call`. Built and run by ci/bench-c.sh, against a library with the feature `rust-twin`, which brings
 * the Rust half. One JSON object a line. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "stokehold.h"

/* One byte shorter than the name of the Rust app: names are copied on the way, and those of one length compared. */
#define NAME "stk_bench:C_"
#define C_APP STK_STR(NAME)

enum { BYTES = 64, BLOCK = 500, MOST = 400 * BLOCK };

size_t stk_test_rust_calls(const stk_client *client, const unsigned char *data, size_t len, uint64_t *times, size_t n);

static stk_status pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    return sched_setaffinity(0, sizeof set, &set) ? STK_OS : STK_OK;
}

static stk_status echo(uintptr_t user, const stk_call *call, stk_reply *reply)
{
    stk_bytes bytes;
    (void)user;
    if (!stk_str_eq(stk_call_action(call), STK_STR("echo"))) return stk_call_no_action(call);
    if (stk_call_bytes(call, 0, &bytes)) return STK_BAD_REQUEST;
    return stk_reply_bytes(reply, bytes.data, bytes.len);
}

static stk_status pin_here(uintptr_t user, const stk_call *call, stk_reply *reply)
{
    int64_t cpu;
    (void)user, (void)reply;
    return stk_call_i64(call, 0, &cpu) ? STK_VALUE : pin((int)cpu);
}

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static size_t c_calls(const stk_client *client, const unsigned char *data, size_t len, uint64_t *times, size_t n)
{
    size_t good = 0;
    for (size_t i = 0; i < n; i++) {
        const uint64_t begin = now();
        stk_result *result = NULL;
        stk_bytes bytes;
        stk_args *args = stk_args_new(client);
        stk_args_push_bytes(args, data, len);
        if (stk_execute(client, C_APP, STK_STR("echo"), args, NULL, &result, NULL) == STK_OK)
            good += stk_result_bytes(result, &bytes) == STK_OK && bytes.len == len;
        stk_result_free(result);
        times[i] = now() - begin;
    }
    return good;
}

static int by_size(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static double at(const uint64_t *sorted, size_t n, double part)
{
    return (double)sorted[(size_t)((double)(n - 1) * part)] / 1000;
}

static int measure(uint32_t wait, const char *wait_name, const char *placement, int blocks)
{
    static uint64_t times[2][MOST];
    static unsigned char data[BYTES];
    stk_error *e = NULL;
    stk_pool *pool;
    stk_client *client;
    cpu_set_t all;
    const int pinned = strcmp(placement, "free") != 0, worker_cpu = strcmp(placement, "two") == 0;
    size_t n = 0, good = 0;

    if (blocks > MOST / BLOCK) blocks = MOST / BLOCK;
    sched_getaffinity(0, sizeof all, &all);
    stk_config *config = stk_config_new();
    stk_config_set_wait(config, wait);
    stk_config_add_app(config, C_APP);
    stk_config_add_app(config, STK_STR("stk_test:Echo"));
    stk_config_add_app(config, STK_STR("pin"));
    if (stk_pool_start(config, &pool, &e) || stk_client_new(pool, &client, &e)) return stk_error_print(e);
    if (pinned) { /* the thread that runs the calls, and this one */
        stk_args *args = stk_args_new(client);
        stk_args_push_i64(args, worker_cpu);
        if (stk_execute(client, STK_STR("pin"), STK_STR("pin"), args, NULL, NULL, &e)) return stk_error_print(e);
        if (pin(0)) return 1;
    }
    c_calls(client, data, BYTES, times[0], 2 * BLOCK); /* warm */
    stk_test_rust_calls(client, data, BYTES, times[1], 2 * BLOCK);
    for (int i = 0; i < blocks; i++, n += BLOCK) {
        good += c_calls(client, data, BYTES, times[0] + n, BLOCK);
        good += stk_test_rust_calls(client, data, BYTES, times[1] + n, BLOCK);
    }
    stk_client_free(client);
    stk_pool_free(pool);
    sched_setaffinity(0, sizeof all, &all);
    if (good != 2 * n) return fprintf(stderr, "%zu of %zu calls failed\n", 2 * n - good, 2 * n), 1;
    qsort(times[0], n, sizeof times[0][0], by_size);
    qsort(times[1], n, sizeof times[1][0], by_size);
    const double p50 = at(times[0], n, 0.5), p99 = at(times[0], n, 0.99);
    const double rust50 = at(times[1], n, 0.5), rust99 = at(times[1], n, 0.99);
    printf("{\"bench\":\"call-c\",\"wait\":\"%s\",\"placement\":\"%s\",\"bytes\":%d,\"threads\":1,\"touch\":false,"
           "\"p50_us\":%.3f,\"p99_us\":%.3f,\"baseline\":\"rust\",\"baseline_p50_us\":%.3f,\"baseline_p99_us\":%.3f,"
           "\"ratio\":%.3f,\"ratio_p99\":%.3f}\n",
           wait_name, placement, BYTES, p50, p99, rust50, rust99, p50 / rust50, p99 / rust99);
    return 0;
}

int main(int argc, char **argv)
{
    const stk_app apps[] = {{.struct_size = sizeof(stk_app), .name = NAME, .call = echo},
                            {.struct_size = sizeof(stk_app), .name = "pin", .call = pin_here}};
    stk_error *e = NULL;
    if (stk_init(apps, sizeof apps / sizeof *apps, NULL, &e)) return stk_error_print(e);
    const int blocks = argc > 1 ? atoi(argv[1]) : 200;
    if (blocks < 1) return fprintf(stderr, "usage: %s [BLOCKS OF %d CALLS]\n", argv[0], BLOCK), 2;
    return measure(STK_WAIT_ADAPTIVE, "adaptive", "one", blocks) || measure(STK_WAIT_SPIN, "spin", "two", blocks) ||
           measure(STK_WAIT_ADAPTIVE, "adaptive", "two", blocks) || measure(STK_WAIT_ADAPTIVE, "adaptive", "free", blocks);
}
