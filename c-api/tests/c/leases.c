/* Memory that is lent: in place both ways, and an id that goes stale. */
#include "check.h"

#include <pthread.h>

static pthread_mutex_t app_lock = PTHREAD_MUTEX_INITIALIZER;
static stk_lease others; /* in a worker: the lease of a call that still runs */
static _Atomic bool is_found;

static stk_status give(const stk_call *call, stk_reply *reply, int64_t size, int64_t len)
{
    stk_lease lease;
    const stk_status status = stk_call_lease(call, (size_t)size, &lease);
    if (status) return status;
    if (lease.size) memset(lease.data, 0x5a, lease.size);
    return stk_reply_lease(reply, lease, (size_t)len);
}

static stk_status misuse(const stk_call *call, stk_reply *reply, int64_t which)
{
    stk_lease lease, other;
    if (stk_call_lease(call, 1000, &lease)) return say(reply, false, "no lease");
    memset(lease.data, 1, lease.size);
    switch (which) {
    case 0: /* given twice */
        if (stk_reply_lease(reply, lease, 1000)) return say(reply, false, "the first time");
        return say(reply, stk_reply_lease(reply, lease, 1000) == STK_INVALID, "the second time"); /* it has an answer */
    case 1: /* not given, the call ends */ return stk_reply_i64(reply, 1);
    case 2: /* more than there is */
        return say(reply, stk_reply_lease(reply, lease, 1001) == STK_INVALID, "one too many");
    case 3: /* released, then given */
        if (stk_lease_release(lease)) return say(reply, false, "released");
        return say(reply, stk_reply_lease(reply, lease, 10) == STK_STALE_LEASE, "stale");
    case 4: /* given, then released */
        if (stk_reply_lease(reply, lease, 10)) return say(reply, false, "given");
        return say(reply, stk_lease_release(lease) == STK_STALE_LEASE, "stale after it was given");
    case 5: /* beside another answer */
        if (stk_reply_i64(reply, 1)) return say(reply, false, "answered");
        return say(reply, stk_reply_lease(reply, lease, 10) == STK_INVALID, "a second answer");
    case 6: /* within a list */
        if (stk_reply_begin_list(reply)) return say(reply, false, "begun");
        return say(reply, stk_reply_lease(reply, lease, 10) == STK_INVALID, "in a list");
    case 7: /* two, one of which is given */
        if (stk_call_lease(call, 2000, &other)) return say(reply, false, "another");
        memset(other.data, 2, other.size);
        return stk_reply_lease(reply, other, 7);
    case 8: /* made up */
        other = lease, other.id ^= (uint64_t)1 << 40;
        return say(reply, stk_reply_lease(reply, other, 10) == STK_STALE_LEASE, "made up");
    case 9: /* none */
        memset(&other, 0, sizeof other);
        return say(reply, stk_reply_lease(reply, other, 0) == STK_STALE_LEASE, "none");
    case 10: /* with an error: the lease is forgotten */
        if (stk_reply_lease(reply, lease, 10)) return say(reply, false, "given");
        return stk_reply_fail(reply, STK_STR("After"), STK_STR("all"));
    case 11: /* of a call that has ended */
        return say(reply, others.id && stk_reply_lease(reply, others, 1) == STK_STALE_LEASE, "of an earlier call");
    }
    return stk_call_no_action(call);
}

static stk_status app(uintptr_t user, const stk_call *call, stk_reply *reply)
{
    int64_t n = 0, m = 0;
    stk_bytes bytes;
    (void)user;
    if (called(call, "give")) {
        if (stk_call_i64(call, 0, &n) || stk_call_i64(call, 1, &m)) return STK_BAD_REQUEST;
        return give(call, reply, n, m);
    }
    if (called(call, "misuse")) return stk_call_i64(call, 0, &n) ? STK_BAD_REQUEST : misuse(call, reply, n);
    if (called(call, "leave")) { /* a lease behind, under its id */
        if (stk_call_lease(call, 10, &others)) return STK_APP;
        return STK_OK;
    }
    if (called(call, "hold")) { /* a lease until another call has found it */
        pthread_mutex_lock(&app_lock);
        const stk_status status = stk_call_lease(call, 10, &others);
        pthread_mutex_unlock(&app_lock);
        if (status) return status;
        for (int i = 0; i < 30000 && !is_found; i++) sleep_ms(1);
        return stk_reply_lease(reply, others, 10); /* still ours */
    }
    if (called(call, "steal")) {
        for (int i = 0; i < 30000; i++) {
            pthread_mutex_lock(&app_lock);
            const stk_lease found = others;
            pthread_mutex_unlock(&app_lock);
            if (found.id) {
                const bool refused = stk_reply_lease(reply, found, 1) == STK_INVALID;
                is_found = true;
                return say(reply, refused, "of another call");
            }
            sleep_ms(1);
        }
        return say(reply, false, "nobody holds one");
    }
    if (stk_call_bytes(call, 0, &bytes)) return STK_BAD_REQUEST;
    if (called(call, "sum")) {
        for (size_t i = 0; i < bytes.len; i++) n += ((const unsigned char *)bytes.data)[i];
        return stk_reply_i64(reply, n);
    }
    if (called(call, "len")) return stk_reply_i64(reply, (int64_t)bytes.len);
    if (called(call, "echo")) return stk_reply_bytes(reply, bytes.data, bytes.len);
    return stk_call_no_action(call);
}

static stk_lease lease_of(stk_client *client, size_t size)
{
    stk_lease lease = {NULL, 0, 0};
    stk_error *e = NULL;
    WORKS(stk_lease_new(client, size, &lease, &e));
    CHECK(lease.size == size && lease.id != 0);
    CHECK(size == 0 || (uintptr_t)lease.data % 64 == 0);
    return lease;
}

static int64_t ask_with(stk_client *client, const char *action, stk_args *args)
{
    int64_t n = -1;
    stk_result *result = NULL;
    stk_error *e = NULL;
    if (run(client, action, args, &result, &e)) return stk_error_print(e), stk_error_free(e), -1;
    if (stk_result_i64(result, &n)) n = -2;
    stk_result_free(result);
    return n;
}

static void arguments_in_place(void)
{
    host h = host_up(NULL);
    static const size_t sizes[] = {0, 1, 63, 64, 65, 447, 448, 449, 4096, 65536, 1 << 20, 9 << 20};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        const stk_lease lease = lease_of(h.client, sizes[i]);
        if (lease.size) memset(lease.data, 3, lease.size);
        for (int round = 0; round < 2; round++) { /* held, it can be sent again */
            stk_args *args = stk_args_new(h.client);
            IS(STK_OK, stk_args_push_lease(args, lease));
            CHECK(ask_with(h.client, "sum", args) == 3 * (int64_t)sizes[i]);
        }
        IS(STK_OK, stk_lease_release(lease));
        IS(STK_STALE_LEASE, stk_lease_release(lease));
    }
    host_down(h);
}

static void released_before_and_after_the_call(void)
{
    host h = host_up(NULL);
    stk_lease lease = lease_of(h.client, 100000);
    memset(lease.data, 1, lease.size);
    stk_args *args = stk_args_new(h.client);
    IS(STK_OK, stk_args_push_lease(args, lease));
    IS(STK_OK, stk_lease_release(lease));
    IS(STK_STALE_LEASE, stk_args_push_lease(args, lease)); /* remembered: this call is lost */
    stk_error *e = NULL;
    FAILS(STK_STALE_LEASE, "not held", run(h.client, "sum", args, NULL, &e));

    lease = lease_of(h.client, 100000);
    memset(lease.data, 1, lease.size);
    args = stk_args_new(h.client);
    IS(STK_OK, stk_args_push_lease(args, lease));
    IS(STK_OK, stk_lease_release(lease));
    const stk_lease next = lease_of(h.client, 100000); /* not where the arguments' memory is */
    memset(next.data, 9, next.size);
    CHECK(ask_with(h.client, "sum", args) == 100000);
    IS(STK_OK, stk_lease_release(next));

    args = stk_args_new(h.client);
    lease = lease_of(h.client, 1000);
    memset(lease.data, 2, lease.size);
    IS(STK_OK, stk_args_push_lease(args, lease));
    IS(STK_OK, stk_args_push_lease(args, lease)); /* twice in one call */
    CHECK(ask_with(h.client, "sum", args) == 2000);
    IS(STK_OK, stk_lease_release(lease));
    host_down(h);
}

/* An id never comes back, although its place does. */
static void stale_ids(void)
{
    host h = host_up(NULL);
    stk_lease first = lease_of(h.client, 10), made_up = first;
    IS(STK_OK, stk_lease_release(first));
    for (int i = 0; i < 1000; i++) {
        const stk_lease lease = lease_of(h.client, 10);
        CHECK(lease.id != first.id);
        IS(STK_STALE_LEASE, stk_lease_release(first));
        IS(STK_OK, stk_lease_release(lease));
        IS(STK_STALE_LEASE, stk_lease_release(lease));
    }
    static const uint64_t ids[] = {0, 1, UINT32_MAX, UINT64_MAX, (uint64_t)1 << 32, (uint64_t)7 << 32 | 12345678};
    for (size_t i = 0; i < COUNT(ids); i++) {
        made_up.id = ids[i];
        IS(STK_STALE_LEASE, stk_lease_release(made_up));
        stk_args *args = stk_args_new(h.client);
        IS(STK_STALE_LEASE, stk_args_push_lease(args, made_up));
        stk_args_free(args);
    }
    host_down(h);
}

/* The value is the caller's to spoil: the library goes by the id. */
static void a_lease_whose_fields_were_changed(void)
{
    host h = host_up(NULL);
    stk_lease lease = lease_of(h.client, 10);
    memset(lease.data, 4, lease.size);
    lease.data = NULL, lease.size = SIZE_MAX;
    stk_args *args = stk_args_new(h.client);
    IS(STK_OK, stk_args_push_lease(args, lease));
    CHECK(ask_with(h.client, "sum", args) == 40);
    IS(STK_OK, stk_lease_release(lease));
    host_down(h);
}

static void a_lease_of_another_client(void)
{
    host h = host_up(NULL), other = host_up(NULL);
    stk_error *e = NULL;
    stk_client *second = NULL;
    WORKS(stk_client_new(h.pool, &second, &e));
    stk_lease lease = lease_of(h.client, 100000);
    memset(lease.data, 1, lease.size);
    stk_client *others_clients[] = {second, other.client};
    for (size_t i = 0; i < COUNT(others_clients); i++) {
        stk_args *args = stk_args_new(others_clients[i]);
        IS(STK_OK, stk_args_push_lease(args, lease));
        FAILS(STK_BAD_REQUEST, "", run(others_clients[i], "sum", args, NULL, &e));
        args = stk_args_new(others_clients[i]); /* it is the client that sends that counts */
        IS(STK_OK, stk_args_push_lease(args, lease));
        CHECK(ask_with(h.client, "sum", args) == 100000);
    }
    stk_client_free(second);
    IS(STK_OK, stk_lease_release(lease));
    host_down(other), host_down(h);
}

static void sizes_that_cannot_be(void)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    stk_lease lease = {NULL, 7, 7};
    FAILS(STK_BAD_REQUEST, "1073741824", stk_lease_new(h.client, ((size_t)1 << 30) + 1, &lease, &e));
    FAILS(STK_BAD_REQUEST, "1073741824", stk_lease_new(h.client, SIZE_MAX, &lease, &e));
    CHECK(lease.id == 7 && lease.size == 7);
    FAILS(STK_BAD_REQUEST, "", run_i64(h.client, "give", 1, NULL, &e)); /* an argument is missing */
    stk_args *args = stk_args_new(h.client);
    stk_args_push_i64(args, INT64_MAX), stk_args_push_i64(args, 0);
    FAILS(STK_BAD_REQUEST, "1073741824", run(h.client, "give", args, NULL, &e));
    host_down(h);
}

/* 2 GiB a client, and what is released is there again. Nobody touches the memory; the file system has to have it. */
static void the_quota(void)
{
    if (under("valgrind")) SKIP("3 GiB of address space at once");
    host h = host_up(NULL);
    stk_error *e = NULL;
    stk_lease big[32];
    size_t n = 0;
    stk_status status = STK_OK;
    uint64_t limit = 0;
    while (n < COUNT(big) && (status = stk_lease_new(h.client, (size_t)256 << 20, &big[n], &e)) == STK_OK) n++;
    if (status == STK_OS) {
        for (size_t i = 0; i < n; i++) stk_lease_release(big[i]);
        stk_error_free(e), host_down(h);
        SKIP("the memory file system has no 2 GiB");
    }
    IS(STK_OVERLOADED, status);
    CHECK(stk_error_bound(e, &limit) == STK_BOUND_BYTES && limit == (uint64_t)2 << 30);
    CHECK(n == 8);
    stk_error_free(e), e = NULL;
    for (size_t i = 0; i < n; i++) IS(STK_OK, stk_lease_release(big[i]));
    WORKS(stk_lease_new(h.client, (size_t)256 << 20, &big[0], &e));
    IS(STK_OK, stk_lease_release(big[0]));
    host_down(h);
}

static void results_in_place(void)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    static const int64_t sizes[][2] = {{0, 0}, {1, 1}, {1, 0}, {100, 7}, {100000, 100000}, {100000, 64}, {5 << 20, 5 << 20}};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        stk_result *result = NULL;
        stk_bytes bytes = {NULL, 1};
        stk_args *args = stk_args_new(h.client);
        stk_args_push_i64(args, sizes[i][0]), stk_args_push_i64(args, sizes[i][1]);
        WORKS(run(h.client, "give", args, &result, &e));
        IS(STK_OK, stk_result_bytes(result, &bytes));
        CHECK((int64_t)bytes.len == sizes[i][1]);
        for (size_t k = 0; k < bytes.len; k += 97) CHECK(((const unsigned char *)bytes.data)[k] == 0x5a);
        stk_result_free(result);
    }
    host_down(h);
}

static void results_misused(void)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    stk_result *result = NULL;
    stk_bytes bytes;
    IS(STK_OK, run(h.client, "leave", NULL, NULL, NULL));
    /* A misuse is remembered: the app, which returned STK_OK, has failed with it. */
    static const struct {
        int64_t which;
        stk_status status;
        const char *words;
    } cases[] = {
        {0, STK_APP, "one value"}, {1, STK_OK, ""},           {2, STK_APP, "1001"},      {3, STK_APP, "not held"},
        {4, STK_OK, ""},           {5, STK_APP, "one value"}, {6, STK_APP, "one value"}, {8, STK_APP, "not held"},
        {9, STK_APP, "not held"},  {10, STK_APP, "all"},      {11, STK_APP, "not held"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        const stk_status status = run_i64(h.client, "misuse", cases[i].which, NULL, &e);
        IS(cases[i].status, status);
        if (!strstr(stk_error_message(e), cases[i].words) || strcmp(stk_error_class(e), "Check") == 0) {
            CHECK(!"the words are these");
            fprintf(stderr, "%d: %s\n", (int)cases[i].which, stk_error_message(e));
        }
        stk_error_free(e), e = NULL;
    }
    WORKS(run_i64(h.client, "misuse", 7, &result, &e));
    CHECK(stk_result_bytes(result, &bytes) == STK_OK && bytes.len == 7 && *(const char *)bytes.data == 2);
    stk_result_free(result);
    /* What calls left behind was released: a worker that leaked would be out of its 2 GiB. */
    for (int i = 0; i < 300; i++) WORKS(run_i64(h.client, "misuse", 1, NULL, &e));
    host_down(h);
}

static void *holder(void *client)
{
    stk_error *e = NULL;
    return run(client, "hold", NULL, NULL, &e) ? (stk_error_print(e), stk_error_free(e), NULL) : client;
}

static void a_result_lease_of_another_call(void)
{
    stk_config *config = stk_config_new();
    stk_config_set_threads(config, 2);
    host h = host_up(config);
    stk_error *e = NULL;
    pthread_t thread;
    void *good = NULL;
    NEED(pthread_create(&thread, NULL, holder, h.client) == 0);
    FAILS(STK_APP, "of another call", run(h.client, "steal", NULL, NULL, &e));
    NEED(pthread_join(thread, &good) == 0);
    CHECK(good != NULL);
    host_down(h);
}

/* Across the boundary of what fits beside the call: the same bytes, lent and copied. */
static void lent_or_copied_is_the_same(void)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    for (size_t size = 400; size < 520; size += 7) {
        const stk_lease lease = lease_of(h.client, size);
        for (size_t i = 0; i < size; i++) ((unsigned char *)lease.data)[i] = (unsigned char)(i * 7);
        for (int lent = 0; lent < 2; lent++) {
            stk_args *args = stk_args_new(h.client);
            stk_result *result = NULL;
            stk_bytes bytes;
            if (lent) stk_args_push_lease(args, lease);
            else stk_args_push_bytes(args, lease.data, size);
            WORKS(run(h.client, "echo", args, &result, &e));
            CHECK(!stk_result_bytes(result, &bytes) && bytes.len == size && !memcmp(bytes.data, lease.data, size));
            stk_result_free(result);
        }
        stk_lease_release(lease);
    }
    host_down(h);
}

int main(int argc, char **argv)
{
    static const stk_app apps[] = {{.struct_size = sizeof(stk_app), .name = "t", .call = app}};
    static const test tests[] = {
        TEST(arguments_in_place),
        TEST(released_before_and_after_the_call),
        TEST(stale_ids),
        TEST(a_lease_whose_fields_were_changed),
        TEST(a_lease_of_another_client),
        TEST(sizes_that_cannot_be),
        TEST(the_quota),
        TEST(results_in_place),
        TEST(results_misused),
        TEST(a_result_lease_of_another_call),
        TEST(lent_or_copied_is_the_same),
    };
    stk_error *e = NULL;
    if (stk_init(apps, 1, NULL, &e)) return stk_error_print(e);
    return run_tests(tests, COUNT(tests), argc, argv);
}
