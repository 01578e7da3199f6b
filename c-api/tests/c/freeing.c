/* Whatever is freed first: what still needs something keeps it, and what can still be read is read. */
#include "check.h"

static stk_status app(uintptr_t user, const stk_call *call, stk_reply *reply)
{
    stk_bytes bytes;
    stk_lease lease;
    (void)user;
    if (stk_call_bytes(call, 0, &bytes)) return STK_BAD_REQUEST;
    if (called(call, "copy")) return stk_reply_bytes(reply, bytes.data, bytes.len);
    if (stk_call_lease(call, bytes.len, &lease)) return STK_APP; /* larger than what fits beside the answer */
    memcpy(lease.data, bytes.data, bytes.len);
    return stk_reply_lease(reply, lease, bytes.len);
}

enum { POOL, CLIENT, ARGS, RESULT, LARGE_RESULT, ERROR, LEASE, LENT, OBJECTS };
enum { LENGTH = 100000 };

typedef struct {
    stk_pool *pool;
    stk_client *client;
    stk_args *args;
    stk_result *small, *large;
    stk_error *error;
    stk_lease lease, lent; /* one that was put into args, one that is only held */
} objects;

/* One of each, made so that each needs the ones before it. */
static objects make(stk_pool *shared)
{
    objects o = {NULL, NULL, NULL, NULL, NULL, NULL, {NULL, 0, 0}, {NULL, 0, 0}};
    stk_error *e = NULL;
    stk_lease lease;
    if (!shared) WORKS(stk_pool_start(NULL, &o.pool, &e));
    WORKS(stk_client_new(shared ? shared : o.pool, &o.client, &e));
    WORKS(stk_lease_new(o.client, LENGTH, &lease, &e));
    for (size_t i = 0; i < lease.size; i++) ((unsigned char *)lease.data)[i] = (unsigned char)(i % 251);
    stk_args *args = stk_args_new(o.client);
    IS(STK_OK, stk_args_push_lease(args, lease));
    IS(STK_OK, stk_lease_release(lease)); /* args keep it */
    WORKS(run(o.client, "lend", args, &o.large, &e));
    args = stk_args_new(o.client);
    IS(STK_OK, stk_args_push_bytes(args, "abc", 3));
    WORKS(run(o.client, "copy", args, &o.small, &e));
    IS(STK_BAD_REQUEST, run(o.client, "copy", NULL, NULL, &o.error));
    WORKS(stk_lease_new(o.client, LENGTH, &o.lease, &e));
    WORKS(stk_lease_new(o.client, LENGTH, &o.lent, &e));
    o.args = stk_args_new(o.client);
    IS(STK_OK, stk_args_push_lease(o.args, o.lent));
    return o;
}

/* All that is not freed yet is as it was. */
static bool whole(const objects *o, const bool *freed)
{
    stk_bytes bytes;
    if (!freed[RESULT]) {
        if (stk_result_bytes(o->small, &bytes) || bytes.len != 3 || memcmp(bytes.data, "abc", 3) != 0) return false;
    }
    if (!freed[LARGE_RESULT]) {
        if (stk_result_bytes(o->large, &bytes) || bytes.len != LENGTH) return false;
        for (size_t i = 0; i < bytes.len; i += 999)
            if (((const unsigned char *)bytes.data)[i] != i % 251) return false;
    }
    if (!freed[ERROR] && (stk_error_status(o->error) != STK_BAD_REQUEST || !*stk_error_message(o->error))) return false;
    if (!freed[LEASE]) memset(o->lease.data, 1, o->lease.size);
    if (!freed[LENT]) memset(o->lent.data, 2, o->lent.size);
    if (!freed[ARGS] && stk_args_push_i64(o->args, 1) != STK_OK) return false;
    return true;
}

static void free_one(objects *o, int which)
{
    switch (which) {
    case POOL: stk_pool_free(o->pool); break;
    case CLIENT: stk_client_free(o->client); break;
    case ARGS: stk_args_free(o->args); break;
    case RESULT: stk_result_free(o->small); break;
    case LARGE_RESULT: stk_result_free(o->large); break;
    case ERROR: stk_error_free(o->error); break;
    case LEASE: IS(STK_OK, stk_lease_release(o->lease)); break;
    case LENT: IS(STK_OK, stk_lease_release(o->lent)); break;
    }
}

static void free_in_order(stk_pool *shared, const int *order, int n)
{
    objects o = make(shared);
    bool freed[OBJECTS] = {false};
    for (int i = 0; i < n; i++) {
        free_one(&o, order[i]);
        freed[order[i]] = true;
        if (!whole(&o, freed)) {
            CHECK(!"all that is left is as it was");
            fprintf(stderr, "after");
            for (int k = 0; k <= i; k++) fprintf(stderr, " %d", order[k]);
            fprintf(stderr, "\n");
        }
    }
    IS(STK_STALE_LEASE, stk_lease_release(o.lease));
    IS(STK_STALE_LEASE, stk_lease_release(o.lent));
}

/* Heap's algorithm: all orders of `n` things, every `step`th of them. */
static void permute(stk_pool *shared, int *order, int n, int all, int step, int *count)
{
    if (n == 1) {
        if ((*count)++ % step == 0) free_in_order(shared, order, all);
        return;
    }
    for (int i = 0; i < n; i++) {
        permute(shared, order, n - 1, all, step, count);
        const int k = n % 2 ? 0 : i, other = order[k];
        order[k] = order[n - 1], order[n - 1] = other;
    }
}

/* The pool lives on: 388 of all 5,040 orders of the rest, spread over them. */
static void every_order_without_the_pool(void)
{
    int order[] = {CLIENT, ARGS, RESULT, LARGE_RESULT, ERROR, LEASE, LENT}, count = 0;
    stk_pool *pool = NULL;
    stk_error *e = NULL;
    WORKS(stk_pool_start(NULL, &pool, &e));
    permute(pool, order, COUNT(order), COUNT(order), under("valgrind") ? 199 : 13, &count);
    CHECK(count == 5040);
    stk_pool_free(pool);
}

/* A pool each, which takes its time: 20 of all 40,320 orders, spread over them. */
static void orders_with_the_pool(void)
{
    int order[] = {POOL, CLIENT, ARGS, RESULT, LARGE_RESULT, ERROR, LEASE, LENT}, count = 0;
    permute(NULL, order, COUNT(order), COUNT(order), under("valgrind") ? 7919 : 2017, &count);
    CHECK(count == 40320);
}

/* The pool, at each place among those that need it. */
static void the_pool_at_each_place(void)
{
    for (int place = 0; place < OBJECTS; place++) {
        int order[OBJECTS], n = 0;
        for (int i = 1; i < OBJECTS; i++) {
            if (n == place) order[n++] = POOL;
            order[n++] = i;
        }
        if (n < OBJECTS) order[n++] = POOL;
        free_in_order(NULL, order, n);
    }
}

static void freeing_nothing(void)
{
    stk_pool_free(NULL);
    stk_client_free(NULL);
    stk_args_free(NULL);
    stk_result_free(NULL);
    stk_error_free(NULL);
    stk_config_free(NULL);
    CHECK(true);
}

static void what_was_never_used(void)
{
    stk_config *config = stk_config_new();
    stk_config_add_app(config, STK_STR("t"));
    stk_config_free(config);
    stk_error_free(stk_error_new(STK_STR("A"), STK_STR("b")));
    CHECK(stk_error_new((stk_str){"\xff", 1}, STK_STR("b")) == NULL);
    host h = host_up(NULL);
    for (int i = 0; i < 100; i++) {
        stk_args *args = stk_args_new(h.client);
        IS(STK_OK, stk_args_begin_list(args));
        stk_args_free(args);
    }
    host_down(h);
}

/* What is consumed is consumed whatever is returned; the leak detectors look after the rest of this. */
static void consumed_by_failures(void)
{
    host h = host_up(NULL);
    stk_pool *pool = NULL;
    stk_error *e = NULL;
    stk_args *args;
    for (int i = 0; i < 20; i++) {
        args = stk_args_new(h.client), stk_args_push_str(args, STK_STR("to be freed by the library"));
        IS(STK_INVALID, run(NULL, "copy", args, NULL, NULL));
        args = stk_args_new(h.client), stk_args_push_str(args, STK_STR("to be freed by the library"));
        IS(STK_INVALID, stk_execute(h.client, (stk_str){"\xff", 1}, STK_STR("x"), args, NULL, NULL, NULL));
        args = stk_args_new(h.client), stk_args_begin_dict(args);
        FAILS(STK_INVALID, "not ended", run(h.client, "copy", args, NULL, &e));
        IS(STK_INVALID, stk_pool_start(stk_config_new(), NULL, NULL));
        IS(STK_CONFIG, stk_pool_start(workers(65), &pool, NULL));
    }
    host_down(h);
}

int main(int argc, char **argv)
{
    static const stk_app apps[] = {{.struct_size = sizeof(stk_app), .name = "t", .call = app}};
    static const test tests[] = {
        TEST(every_order_without_the_pool), TEST(orders_with_the_pool), TEST(the_pool_at_each_place),
        TEST(freeing_nothing),              TEST(what_was_never_used),  TEST(consumed_by_failures),
    };
    stk_error *e = NULL;
    if (stk_init(apps, 1, NULL, &e)) return stk_error_print(e);
    return run_tests(tests, COUNT(tests), argc, argv);
}
