/* Any thread may use any object, several may use one; and a pool is started in the middle of threads that hold malloc's
 * locks, again and again: the library execs, and never forks a host that has threads. */
#include "check.h"

#include <pthread.h>
#include <stdatomic.h>

enum { THREADS = 8 };

static stk_status app(uintptr_t user, const stk_call *call, stk_reply *reply)
{
    int64_t n = 0;
    stk_bytes bytes;
    (void)user;
    if (called(call, "i64")) return stk_call_i64(call, 0, &n) ? STK_BAD_REQUEST : stk_reply_i64(reply, n);
    if (called(call, "abort")) abort();
    if (called(call, "sum")) {
        if (stk_call_bytes(call, 0, &bytes)) return STK_BAD_REQUEST;
        for (size_t i = 0; i < bytes.len; i++) n += ((const unsigned char *)bytes.data)[i];
        return stk_reply_i64(reply, n);
    }
    if (called(call, "tree")) {
        stk_reply_begin_list(reply);
        for (int64_t i = 0; i < 100; i++) {
            stk_reply_begin_dict(reply);
            stk_reply_key(reply, STK_STR("n")), stk_reply_i64(reply, i);
            stk_reply_end(reply);
        }
        return stk_reply_end(reply);
    }
    return stk_call_no_action(call);
}

static host h;
static stk_result *shared_result;
static _Atomic int wrong, over;

/* Runs one function in all threads; counts what they found wrong. */
static void in_threads(void *(*body)(void *))
{
    pthread_t threads[THREADS];
    static int64_t numbers[THREADS];
    wrong = 0;
    over = 0;
    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i;
        NEED(pthread_create(&threads[i], NULL, body, &numbers[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++) NEED(pthread_join(threads[i], NULL) == 0);
    CHECK(wrong == 0);
}

static int rounds(int usual)
{
    return under("valgrind") ? usual / 20 : usual;
}

/* Each gets its own answer, whoever else asks. */
static void *caller(void *number)
{
    const int64_t me = *(const int64_t *)number;
    for (int64_t i = 0; i < rounds(1000); i++)
        if (ask(h.client, "i64", me * 1000000 + i) != me * 1000000 + i) wrong++;
    return NULL;
}

static void one_client_for_all_threads(void)
{
    h = host_up(workers(2));
    in_threads(caller);
    host_down(h);
}

static void *lender(void *number)
{
    const int64_t me = *(const int64_t *)number;
    for (int i = 0; i < rounds(100); i++) {
        stk_lease lease;
        stk_result *result = NULL;
        int64_t sum = 0;
        if (stk_lease_new(h.client, 20000, &lease, NULL)) {
            wrong++;
            continue;
        }
        memset(lease.data, (int)me + 1, lease.size);
        stk_args *args = stk_args_new(h.client);
        if (stk_args_push_lease(args, lease) || stk_lease_release(lease)) wrong++;
        if (run(h.client, "sum", args, &result, NULL) || stk_result_i64(result, &sum) || sum != 20000 * (me + 1)) wrong++;
        stk_result_free(result);
        if (stk_lease_release(lease) != STK_STALE_LEASE) wrong++;
    }
    return NULL;
}

static void leases_in_all_threads(void)
{
    h = host_up(workers(2));
    in_threads(lender);
    host_down(h);
}

static pthread_barrier_t all_hold;

/* More than 64 calls at a time: refused at once, and none is lost. */
static void *holder(void *number)
{
    stk_result *held[12];
    size_t n = 0;
    (void)number;
    for (size_t i = 0; i < COUNT(held); i++) { /* 96 are wanted, 64 can be had */
        const stk_status status = run_i64(h.client, "i64", 1, &held[n], NULL);
        if (status == STK_OK) n++;
        else if (status == STK_OVERLOADED) over++;
        else wrong++;
    }
    pthread_barrier_wait(&all_hold);
    while (n) stk_result_free(held[--n]);
    for (int i = 0; i < rounds(300); i++) {
        stk_error *e = NULL;
        const stk_status status = run_i64(h.client, "i64", i, &held[n], &e);
        if (status == STK_OK) n++;
        else if (status == STK_OVERLOADED && stk_error_bound(e, NULL) == STK_BOUND_CALLS) over++;
        else wrong++;
        stk_error_free(e);
        while (n == COUNT(held) || (status && n)) stk_result_free(held[--n]);
    }
    while (n) stk_result_free(held[--n]);
    return NULL;
}

static void more_calls_than_there_are(void)
{
    h = host_up(workers(2));
    NEED(pthread_barrier_init(&all_hold, NULL, THREADS) == 0);
    in_threads(holder);
    CHECK(over >= THREADS * 12 - 64);
    pthread_barrier_destroy(&all_hold);
    for (int i = 0; i < 100; i++) CHECK(ask(h.client, "i64", i) == i);
    host_down(h);
}

static void *reader(void *number)
{
    (void)number;
    for (int round = 0; round < rounds(200); round++) {
        stk_value list, pair, n;
        stk_iter iter;
        int64_t expected = 0, found = -1;
        if (stk_result_value(shared_result, &list) || stk_value_iter(&list, &iter)) wrong++;
        while (stk_iter_next(&iter, NULL, &pair) == STK_OK) {
            if (stk_value_get(&pair, STK_STR("n"), &n) || stk_value_i64(&n, &found) || found != expected++) wrong++;
        }
        if (expected != 100) wrong++;
    }
    return NULL;
}

static void one_result_for_all_threads(void)
{
    h = host_up(NULL);
    stk_error *e = NULL;
    WORKS(run(h.client, "tree", NULL, &shared_result, &e));
    stk_client_free(h.client), stk_pool_free(h.pool);
    in_threads(reader);
    stk_result_free(shared_result);
}

static void *killer(void *number)
{
    const int64_t me = *(const int64_t *)number;
    for (int i = 0; i < rounds(60); i++) {
        const stk_status status = me == 0 && i % 10 == 0 ? run(h.client, "abort", NULL, NULL, NULL)
                                                         : run_i64(h.client, "i64", i, NULL, NULL);
        if (me == 0 && i % 10 == 0 ? status != STK_WORKER_DIED : status != STK_OK) wrong++;
    }
    return NULL;
}

/* A crash is its caller's alone: each worker runs one call at a time. */
static void crashes_beside_other_calls(void)
{
    stk_config *config = workers(2);
    stk_config_set_restart_limit(config, 1000, 1000);
    stk_config_set_backoff_ms(config, 1, 1);
    h = host_up(config);
    in_threads(killer);
    host_down(h);
}

static _Atomic bool stop;

static void *hammer(void *unused)
{
    unsigned seed = 1;
    while (!stop) {
        void *blocks[16];
        for (size_t i = 0; i < COUNT(blocks); i++) {
            seed = seed * 1103515245u + 12345u;
            blocks[i] = malloc(1 + seed % 5000);
        }
        for (size_t i = 0; i < COUNT(blocks); i++) free(blocks[i]);
    }
    return unused;
}

/* A fork here would copy a lock that nobody is left to open. */
static void pools_between_threads_that_allocate(void)
{
    if (under("valgrind")) SKIP("its threads take turns, so that none is in the middle of malloc");
    pthread_t threads[THREADS];
    stop = false;
    for (int i = 0; i < THREADS; i++) NEED(pthread_create(&threads[i], NULL, hammer, NULL) == 0);
    for (int i = 0; i < rounds(under("address") ? 20 : 60); i++) {
        host pool = host_up(NULL);
        CHECK(ask(pool.client, "i64", i) == i);
        host_down(pool);
    }
    stop = true;
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
}

static void *starter(void *number)
{
    const int64_t me = *(const int64_t *)number;
    for (int i = 0; i < rounds(20); i++) {
        host pool = host_up(NULL);
        if (ask(pool.client, "i64", me) != me) wrong++;
        host_down(pool);
    }
    return NULL;
}

static void pools_in_all_threads(void)
{
    in_threads(starter);
}

/* Made in one thread, used in a second, freed in a third. */
static void *maker(void *out)
{
    *(host *)out = host_up(NULL);
    return NULL;
}

static void *user(void *in)
{
    if (ask(((host *)in)->client, "i64", 3) != 3) wrong++;
    return NULL;
}

static void *ender(void *in)
{
    host_down(*(host *)in);
    return NULL;
}

static void objects_wander_between_threads(void)
{
    void *(*const bodies[])(void *) = {maker, user, user, ender};
    host wandering;
    wrong = 0;
    for (size_t i = 0; i < COUNT(bodies); i++) {
        pthread_t thread;
        NEED(pthread_create(&thread, NULL, bodies[i], &wandering) == 0 && pthread_join(thread, NULL) == 0);
    }
    CHECK(wrong == 0);
}

int main(int argc, char **argv)
{
    static const stk_app apps[] = {{.struct_size = sizeof(stk_app), .name = "t", .call = app}};
    static const test tests[] = {
        TEST(one_client_for_all_threads),
        TEST(leases_in_all_threads),
        TEST(more_calls_than_there_are),
        TEST(one_result_for_all_threads),
        TEST(crashes_beside_other_calls),
        TEST(pools_between_threads_that_allocate),
        TEST(pools_in_all_threads),
        TEST(objects_wander_between_threads),
    };
    stk_error *e = NULL;
    if (stk_init(apps, 1, NULL, &e)) return stk_error_print(e);
    return run_tests(tests, COUNT(tests), argc, argv);
}
