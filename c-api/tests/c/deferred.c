/* Calls that are answered later: by a thread of the app's, at once, not at all; what they may read and build meanwhile. */
#include "check.h"

#include <pthread.h>

enum { MOST = 256 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct { stk_deferred *deferred; int64_t n; int how; } jobs[MOST];
static int waiting;

enum { NUMBER, LEASE, FAIL, STATUS, DROP, ARGS, HALF, ALIVE, ABANDONED };

/* Answers one job; in a thread that no call runs on. */
static void answer(stk_deferred *deferred, int64_t n, int how)
{
    stk_reply *reply = stk_deferred_reply(deferred);
    stk_lease lease;
    stk_value list, item;
    stk_iter iter;
    int64_t sum = 0, one = 0;
    switch (how) {
    case LEASE:
        if (stk_deferred_lease(deferred, (size_t)n, &lease) == STK_OK) memset(lease.data, 7, lease.size);
        stk_reply_lease(reply, lease, lease.size);
        break;
    case FAIL: stk_deferred_answer(deferred, stk_reply_fail(reply, STK_STR("Late"), STK_STR("and wrong"))); return;
    case STATUS: stk_deferred_answer(deferred, STK_BAD_REQUEST); return;
    case DROP: stk_deferred_free(deferred); return;
    case ARGS:
        if (stk_deferred_args(deferred, &list) || stk_value_iter(&list, &iter)) break;
        while (stk_iter_next(&iter, NULL, &item) == STK_OK)
            if (stk_value_i64(&item, &one) == STK_OK) sum += one;
        stk_reply_i64(reply, sum);
        break;
    case HALF: stk_reply_begin_list(reply); break;
    case ALIVE:
        for (int i = 0; i < 70; i++) sleep_ms(20), stk_deferred_keep_alive(deferred);
        stk_reply_i64(reply, n);
        break;
    case ABANDONED:
        while (!stk_deferred_is_cancelled(deferred)) sleep_ms(1);
        stk_deferred_free(deferred);
        return;
    default: stk_reply_i64(reply, n); break;
    }
    stk_deferred_answer(deferred, STK_OK);
}

static void *answers(void *nothing)
{
    for (;;) {
        stk_deferred *deferred = NULL;
        int64_t n = 0;
        int how = 0;
        pthread_mutex_lock(&lock);
        if (waiting) waiting--, deferred = jobs[waiting].deferred, n = jobs[waiting].n, how = jobs[waiting].how;
        pthread_mutex_unlock(&lock);
        if (deferred) answer(deferred, n, how);
        else sleep_ms(1);
    }
    return nothing;
}

static stk_status init(uintptr_t user, uintptr_t *instance, stk_error **error)
{
    pthread_t thread;
    (void)user, (void)instance, (void)error;
    for (int i = 0; i < 2; i++)
        if (pthread_create(&thread, NULL, answers, NULL)) return STK_APP;
    return STK_OK;
}

static void later(uintptr_t user, stk_deferred *deferred)
{
    pthread_mutex_lock(&lock);
    jobs[waiting].deferred = deferred, jobs[waiting].n = (int64_t)(user >> 8), jobs[waiting].how = (int)(user & 0xff), waiting++;
    pthread_mutex_unlock(&lock);
}

static void now(uintptr_t user, stk_deferred *deferred)
{
    stk_reply_i64(stk_deferred_reply(deferred), (int64_t)user);
    stk_deferred_answer(deferred, STK_OK);
}

static void keep(uintptr_t user, stk_deferred *deferred) { (void)user, (void)deferred; }
static void never(uintptr_t user, stk_deferred *deferred) { (void)user, stk_deferred_free(deferred), abort(); }

static stk_status app(uintptr_t user, const stk_call *call, stk_reply *reply)
{
    int64_t n = 0, how = 0;
    (void)user;
    if (stk_call_i64(call, 0, &n)) return STK_BAD_REQUEST;
    if (called(call, "i64")) return stk_reply_i64(reply, n);
    if (called(call, "later")) {
        if (stk_call_i64(call, 1, &how)) return STK_BAD_REQUEST;
        return stk_call_defer(call, reply, (uintptr_t)n << 8 | (uintptr_t)how, later);
    }
    if (called(call, "now")) return stk_call_defer(call, reply, (uintptr_t)n, now);
    if (called(call, "keep")) return stk_call_defer(call, reply, 0, keep);
    if (called(call, "refused")) { /* deferred, and then the app says no: nobody gets a handle */
        stk_status status = stk_call_defer(call, reply, 0, never);
        return status ? status : stk_reply_fail(reply, STK_STR("Changed"), STK_STR("its mind"));
    }
    if (called(call, "twice")) {
        if (stk_call_defer(call, reply, 1, now)) return say(reply, false, "the first");
        if (stk_call_defer(call, reply, 2, now) != STK_INVALID) return say(reply, false, "the second");
        return stk_reply_i64(reply, 3) == STK_INVALID ? STK_OK : say(reply, false, "a value");
    }
    if (called(call, "after")) {
        stk_reply_i64(reply, n);
        return stk_call_defer(call, reply, 1, now) == STK_INVALID ? STK_INVALID : STK_OK;
    }
    if (called(call, "wrong")) {
        if (stk_call_defer(call, reply, 0, NULL) != STK_INVALID) return say(reply, false, "NULL");
        if (stk_call_defer(call, NULL, 0, now) != STK_INVALID) return say(reply, false, "no reply");
        if (stk_call_defer(NULL, reply, 0, now) != STK_INVALID) return say(reply, false, "no call");
        return stk_reply_i64(reply, stk_call_is_cancelled(call) ? -1 : n);
    }
    if (called(call, "alive")) {
        for (int i = 0; i < 70; i++) {
            sleep_ms(20);
            if (stk_call_keep_alive(call)) return STK_APP;
        }
        return stk_reply_i64(reply, n);
    }
    return stk_call_no_action(call);
}

static stk_status run_later(host h, int64_t n, int how, uint64_t deadline_ms, stk_result **result, stk_error **e)
{
    const stk_options options = {.struct_size = sizeof options, .deadline_ms = deadline_ms};
    stk_args *args = stk_args_new(h.client);
    stk_args_push_i64(args, n), stk_args_push_i64(args, how);
    return stk_execute(h.client, STK_STR("t"), STK_STR("later"), args, &options, result, e);
}

static void answered_from_another_thread(void)
{
    host h = host_up(workers(1));
    stk_error *e = NULL;
    stk_result *result = NULL;
    stk_bytes bytes;
    int64_t n = 0;
    for (int64_t i = 0; i < 200; i++) {
        WORKS(run_later(h, i, NUMBER, 0, &result, &e));
        CHECK(stk_result_i64(result, &n) == STK_OK && n == i);
        stk_result_free(result);
    }
    WORKS(run_later(h, 100000, LEASE, 0, &result, &e));
    IS(STK_OK, stk_result_bytes(result, &bytes));
    CHECK(bytes.len == 100000 && ((const char *)bytes.data)[99999] == 7);
    stk_result_free(result);
    WORKS(run_later(h, 40, ARGS, 0, &result, &e));
    CHECK(stk_result_i64(result, &n) == STK_OK && n == 40 + ARGS);
    stk_result_free(result);
    CHECK(ask(h.client, "now", 12) == 12);
    host_down(h);
}

static void its_thread_takes_the_next_call(void)
{
    host h = host_up(workers(1));
    stk_error *e = NULL;
    stk_pending *kept[8];
    for (int i = 0; i < 8; i++) {
        stk_args *args = stk_args_new(h.client);
        stk_args_push_i64(args, i);
        WORKS(stk_submit(h.client, STK_STR("t"), STK_STR("keep"), args, NULL, &kept[i], &e));
    }
    CHECK(ask(h.client, "i64", 5) == 5); /* one worker with one thread, and eight calls with it */
    for (int i = 0; i < 8; i++) {
        FAILS(STK_CANCELLED, "", stk_pending_cancel(kept[i], NULL, &e));
        stk_pending_free(kept[i]);
    }
    host_down(h);
}

static void errors_of_all_kinds(void)
{
    host h = host_up(workers(1));
    stk_error *e = NULL;
    FAILS(STK_APP, "and wrong", run_later(h, 1, FAIL, 0, NULL, &e));
    FAILS(STK_BAD_REQUEST, "the deferred call returned STK_BAD_REQUEST", run_later(h, 1, STATUS, 0, NULL, &e));
    FAILS(STK_APP, "not ended", run_later(h, 1, HALF, 0, NULL, &e));
    IS(STK_APP, run_later(h, 1, DROP, 0, NULL, &e));
    CHECK(strcmp(stk_error_class(e), "Dropped") == 0);
    stk_error_free(e), e = NULL;
    FAILS(STK_APP, "its mind", run_i64(h.client, "refused", 1, NULL, &e));
    CHECK(ask(h.client, "twice", 9) == -1); /* what failed last is what the call failed with */
    FAILS(STK_APP, "cannot be deferred", run_i64(h.client, "after", 9, NULL, &e));
    CHECK(ask(h.client, "wrong", 9) == 9);
    host_down(h);
}

static void kept_alive_and_given_up(void)
{
    stk_config *config = workers(1);
    stk_config_set_timeout_ms(config, 1000);
    stk_config_set_kill_grace_ms(config, 600000);
    host h = host_up(config);
    stk_error *e = NULL;
    stk_result *result = NULL;
    WORKS(run_later(h, 5, ALIVE, 0, &result, &e)); /* takes 1,400 ms */
    stk_result_free(result);
    CHECK(ask(h.client, "alive", 6) == 6);
    FAILS(STK_DEADLINE, "", run_later(h, 5, ABANDONED, 50, NULL, &e));
    FAILS(STK_DEADLINE, "", run_later(h, 5, ALIVE, 100, NULL, &e)); /* the caller's own */
    CHECK(ask(h.client, "i64", 7) == 7);
    host_down(h);
}

static void one_too_many(void)
{
    host h = host_up(workers(1));
    stk_client *others[3];
    stk_pending *kept[129];
    stk_error *e = NULL;
    int n = 0;
    for (int c = 0; c < 3; c++) WORKS(stk_client_new(h.pool, &others[c], &e));
    for (n = 0; n < 128; n++) {
        stk_args *args = stk_args_new(others[n / 60]);
        stk_args_push_i64(args, n);
        WORKS(stk_submit(others[n / 60], STK_STR("t"), STK_STR("keep"), args, NULL, &kept[n], &e));
    }
    for (int c = 0; c < 3; c++) CHECK(ask(others[c], "i64", c) == c); /* by now the worker has all of them */
    stk_status status = run_i64(h.client, "keep", 0, NULL, &e);
    IS(STK_APP, status); /* the worker's own limit, as the app passed it on */
    CHECK(strcmp(stk_error_class(e), "Overloaded") == 0);
    stk_error_free(e);
    while (n--) stk_pending_free(kept[n]);
    for (int c = 0; c < 3; c++) stk_client_free(others[c]);
    host_down(h);
}

static void nothing(void)
{
    stk_value value;
    stk_lease lease;
    CHECK(stk_deferred_reply(NULL) == NULL && stk_deferred_is_cancelled(NULL) && stk_deferred_deadline_ns(NULL) == 0);
    IS(STK_INVALID, stk_deferred_answer(NULL, STK_OK));
    IS(STK_INVALID, stk_deferred_args(NULL, &value));
    IS(STK_INVALID, stk_deferred_named_args(NULL, &value));
    IS(STK_INVALID, stk_deferred_lease(NULL, 1, &lease));
    IS(STK_INVALID, stk_deferred_keep_alive(NULL));
    IS(STK_INVALID, stk_call_keep_alive(NULL));
    CHECK(stk_call_is_cancelled(NULL));
    stk_deferred_free(NULL);
}

int main(int argc, char **argv)
{
    static const stk_app apps[] = {{.struct_size = sizeof(stk_app), .name = "t", .init = init, .call = app}};
    static const test tests[] = {
        TEST(answered_from_another_thread),
        TEST(its_thread_takes_the_next_call),
        TEST(errors_of_all_kinds),
        TEST(kept_alive_and_given_up),
        TEST(one_too_many),
        TEST(nothing),
    };
    stk_error *e = NULL;
    if (stk_init(apps, 1, NULL, &e)) return stk_error_print(e);
    return run_tests(tests, COUNT(tests), argc, argv);
}
