/* A bug of the library's own: a panic inside of a function is a status with a message, and what it may have left half done
 * is not touched again. stk_test_panic_next is there in the library that these tests are linked to, and in no other. */
#include "check.h"

extern void stk_test_panic_next(void);

static stk_status app(uintptr_t user, const stk_call *call, stk_reply *reply)
{
    int64_t n = 0;
    stk_lease lease;
    stk_value value;
    (void)user;
    if (stk_call_i64(call, 0, &n)) return STK_BAD_REQUEST;
    if (called(call, "i64")) return stk_reply_i64(reply, n);
    if (called(call, "in_call")) { /* a call is not poisoned: nothing in it is changed by a function */
        stk_test_panic_next();
        if (stk_call_i64(call, 0, &n) != STK_PANIC) return say(reply, false, "stk_call_i64");
        stk_test_panic_next();
        if (stk_call_args(call, &value) != STK_PANIC) return say(reply, false, "stk_call_args");
        stk_test_panic_next();
        if (stk_call_lease(call, 10, &lease) != STK_PANIC) return say(reply, false, "stk_call_lease");
        stk_test_panic_next();
        if (stk_call_check_deadline(call) != STK_PANIC) return say(reply, false, "stk_call_check_deadline");
        stk_test_panic_next();
        if (stk_call_no_action(call) != STK_PANIC) return say(reply, false, "stk_call_no_action");
        return stk_call_i64(call, 0, &n) ? STK_APP : stk_reply_i64(reply, n);
    }
    if (called(call, "in_reply")) { /* returned as it is */
        stk_test_panic_next();
        return stk_reply_i64(reply, n);
    }
    if (called(call, "in_reply_unseen")) { /* the answer is lost, and the app says that all is well */
        stk_test_panic_next();
        stk_reply_i64(reply, n);
        return STK_OK;
    }
    if (called(call, "in_reply_then")) { /* it can do nothing more, not even fail */
        stk_test_panic_next();
        stk_reply_begin_list(reply);
        if (stk_reply_end(reply) != STK_PANIC || stk_reply_i64(reply, 1) != STK_PANIC) return STK_APP;
        return stk_reply_fail(reply, STK_STR("A"), STK_STR("b")) == STK_PANIC ? STK_OK : STK_APP;
    }
    if (called(call, "in_fail")) {
        stk_test_panic_next();
        return stk_reply_fail(reply, STK_STR("A"), STK_STR("b"));
    }
    if (called(call, "in_item") || called(call, "in_send")) { /* a panic over an item is that item's, one over the sink all others' */
        stk_sink *sink;
        if (stk_call_sink(call, NULL, &sink)) return STK_APP;
        if (called(call, "in_item")) stk_test_panic_next();
        stk_reply_i64(stk_sink_item(sink), 1);
        if (called(call, "in_send")) stk_test_panic_next();
        if (stk_sink_send(sink) != STK_PANIC) return STK_APP;
        stk_reply_i64(stk_sink_item(sink), n);
        return stk_sink_send(sink);
    }
    if (called(call, "echo") || called(call, "in_started") || called(call, "in_next")) { /* a call is not poisoned; an inbox is */
        stk_sink *sink;
        stk_inbox *inbox;
        if (called(call, "in_started")) {
            stk_test_panic_next();
            if (stk_call_started(call, reply, &sink, &inbox) != STK_PANIC) return STK_APP;
        }
        if (stk_call_started(call, reply, &sink, &inbox)) return STK_APP;
        if (called(call, "in_next")) {
            stk_test_panic_next();
            if (stk_inbox_next(inbox, STK_FOREVER, NULL) != STK_PANIC) return STK_APP;
        }
        stk_status status;
        while (!(status = stk_inbox_next(inbox, STK_FOREVER, NULL))) n++;
        return status == STK_END ? stk_reply_i64(reply, n) : status;
    }
    if (called(call, "in_reply_lease")) {
        if (stk_call_lease(call, 10, &lease)) return STK_APP;
        stk_test_panic_next();
        return stk_reply_lease(reply, lease, 10);
    }
    return stk_call_no_action(call);
}

#define PANICS(call) (stk_test_panic_next(), FAILS(STK_PANIC, "a test asked for this", call))
#define PANICS_MUTELY(call) (stk_test_panic_next(), IS(STK_PANIC, call))
/* A handle that was left unusable says so. */
#define POISONED(call) FAILS(STK_PANIC, "can only be freed", call)
#define POISONED_MUTELY(call) IS(STK_PANIC, call)

static void a_client(void)
{
    static const int functions = 3;
    for (int which = 0; which < functions; which++) {
        host h = host_up(NULL);
        stk_error *e = NULL;
        stk_client *other = NULL;
        stk_result *before = NULL, *result = NULL;
        stk_lease lease, held;
        size_t n = 5;
        int64_t number = 0;
        WORKS(stk_client_new(h.pool, &other, &e));
        WORKS(run_i64(h.client, "i64", 3, &before, &e));
        WORKS(stk_lease_new(h.client, 100, &held, &e));
        stk_args *args = stk_args_new(h.client);
        switch (which) {
        case 0: PANICS(run(h.client, "i64", NULL, &result, &e)); break;
        case 1: PANICS(stk_lease_new(h.client, 10, &lease, &e)); break;
        case 2: PANICS_MUTELY(stk_client_worker_pids(h.client, NULL, 0, &n)); break;
        }
        POISONED(run_i64(h.client, "i64", 1, &result, &e));
        POISONED(stk_lease_new(h.client, 10, &lease, &e));
        POISONED_MUTELY(stk_client_worker_pids(h.client, NULL, 0, &n));
        CHECK(result == NULL && n == 5);
        /* What is of it and what is not goes on. */
        CHECK(stk_result_i64(before, &number) == STK_OK && number == 3);
        IS(STK_OK, stk_args_push_i64(args, 4));
        IS(STK_OK, run(other, "i64", args, NULL, NULL));
        CHECK(ask(other, "i64", 8) == 8);
        IS(STK_OK, stk_lease_release(held));
        stk_client_free(other);
        stk_result_free(before);
        host_down(h);
    }
}

static void a_pool(void)
{
    for (int which = 0; which < 4; which++) {
        host h = host_up(NULL);
        stk_error *e = NULL;
        stk_client *client = NULL;
        int32_t fd = -7;
        const pid_t arbiter = (pid_t)stk_pool_arbiter_pid(h.pool);
        switch (which) {
        case 0: PANICS(stk_pool_stop(h.pool, &e)); break;
        case 1: PANICS(stk_pool_kill(h.pool, &e)); break;
        case 2: PANICS(stk_client_new(h.pool, &client, &e)); break;
        case 3: PANICS(stk_pool_client_fd(h.pool, &fd, &e)); break;
        }
        POISONED(stk_pool_stop(h.pool, &e));
        POISONED(stk_pool_kill(h.pool, &e));
        POISONED(stk_client_new(h.pool, &client, &e));
        POISONED(stk_pool_client_fd(h.pool, &fd, &e));
        CHECK(client == NULL && fd == -7 && stk_pool_arbiter_pid(h.pool) == (uint32_t)arbiter);
        CHECK(lives(arbiter) && ask(h.client, "i64", 6) == 6);
        host_down(h);
        CHECK(!lives(arbiter)); /* to free it is still to end it */
    }
}

static void a_configuration(void)
{
    stk_error *e = NULL;
    stk_pool *pool = NULL;
    stk_config *config = stk_config_new();
    PANICS_MUTELY(stk_config_set_workers(config, 2));
    POISONED_MUTELY(stk_config_set_workers(config, 2));
    POISONED_MUTELY(stk_config_add_app(config, STK_STR("t")));
    POISONED(stk_pool_start(config, &pool, &e)); /* consumed */
    PANICS(stk_pool_start(stk_config_new(), &pool, &e));
    PANICS(stk_pool_start(NULL, &pool, &e));
    config = stk_config_new();
    PANICS_MUTELY(stk_config_set_fork(config));
    stk_config_free(config);
    CHECK(pool == NULL);
    host h = host_up(NULL);
    CHECK(ask(h.client, "i64", 1) == 1);
    host_down(h);
}

static void arguments(void)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    for (int which = 0; which < 11; which++) {
        stk_args *args = stk_args_new(h.client);
        stk_lease lease;
        WORKS(stk_lease_new(h.client, 10, &lease, &e));
        switch (which) {
        case 0: PANICS_MUTELY(stk_args_push_none(args)); break;
        case 1: PANICS_MUTELY(stk_args_push_bool(args, true)); break;
        case 2: PANICS_MUTELY(stk_args_push_i64(args, 1)); break;
        case 3: PANICS_MUTELY(stk_args_push_f64(args, 1)); break;
        case 4: PANICS_MUTELY(stk_args_push_str(args, STK_STR("x"))); break;
        case 5: PANICS_MUTELY(stk_args_push_bytes(args, "x", 1)); break;
        case 6: PANICS_MUTELY(stk_args_push_lease(args, lease)); break;
        case 7: PANICS_MUTELY(stk_args_begin_list(args)); break;
        case 8: PANICS_MUTELY(stk_args_begin_dict(args)); break;
        case 9: PANICS_MUTELY(stk_args_end(args)); break;
        case 10: PANICS_MUTELY(stk_args_key(args, STK_STR("x"))); break;
        }
        POISONED_MUTELY(stk_args_push_i64(args, 1));
        POISONED_MUTELY(stk_args_push_none(args));
        POISONED(run(h.client, "i64", args, NULL, &e)); /* refused, and the client is as it was */
        CHECK(ask(h.client, "i64", 2) == 2);
        IS(STK_OK, stk_lease_release(lease));
        args = stk_args_new(h.client);
        PANICS_MUTELY(stk_args_push_i64(args, 1));
        stk_args_free(args);
    }
    host_down(h);
}

static void a_result(void)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    for (int which = 0; which < 6; which++) {
        stk_result *result = NULL, *other = NULL;
        stk_value value;
        bool b;
        int64_t n = 5;
        double f;
        stk_str text;
        stk_bytes bytes;
        WORKS(run_i64(h.client, "i64", 3, &result, &e));
        WORKS(run_i64(h.client, "i64", 4, &other, &e));
        switch (which) {
        case 0: PANICS_MUTELY(stk_result_value(result, &value)); break;
        case 1: PANICS_MUTELY(stk_result_bool(result, &b)); break;
        case 2: PANICS_MUTELY(stk_result_i64(result, &n)); break;
        case 3: PANICS_MUTELY(stk_result_f64(result, &f)); break;
        case 4: PANICS_MUTELY(stk_result_str(result, &text)); break;
        case 5: PANICS_MUTELY(stk_result_bytes(result, &bytes)); break;
        }
        POISONED_MUTELY(stk_result_i64(result, &n));
        POISONED_MUTELY(stk_result_value(result, &value));
        CHECK(n == 5 && stk_result_worker(result) == 1);
        CHECK(stk_result_i64(other, &n) == STK_OK && n == 4);
        stk_result_free(other);
        stk_result_free(result);
    }
    for (int i = 0; i < 100; i++) CHECK(ask(h.client, "i64", i) == i); /* its place among the 64 is free */
    host_down(h);
}

static void a_stream(void)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    stk_value value;
    stk_canceller *canceller = NULL;
    for (int which = 0; which < 5; which++) {
        stk_stream *stream = NULL;
        stk_args *args = stk_args_new(h.client);
        stk_args_push_i64(args, 4);
        WORKS(stk_stream_open(h.client, STK_STR("t"), STK_STR("i64"), args, NULL, &stream, &e));
        switch (which) {
        case 0: PANICS(stk_stream_next(stream, STK_FOREVER, NULL, &e)); break;
        case 1: PANICS(stk_stream_wait(stream, STK_FOREVER, &e)); break;
        case 2: PANICS_MUTELY(stk_stream_value(stream, &value)); break;
        case 3: PANICS_MUTELY(stk_stream_cancel(stream)); break;
        case 4: PANICS(stk_stream_canceller(stream, &canceller, &e)); break;
        }
        POISONED(stk_stream_next(stream, STK_FOREVER, NULL, &e));
        POISONED(stk_stream_wait(stream, STK_FOREVER, &e));
        CHECK(canceller == NULL);
        stk_stream_free(stream);
    }
    for (int i = 0; i < 100; i++) CHECK(ask(h.client, "i64", i) == i); /* its place among the 64 is free */
    host_down(h);
}

static stk_stream *open_context(host h, const char *action, stk_sender **sender)
{
    stk_error *e = NULL;
    stk_stream *stream = NULL;
    stk_args *args = stk_args_new(h.client);
    stk_args_push_i64(args, 4);
    WORKS(stk_context_open(h.client, STK_STR("t"), S(action), args, NULL, &stream, sender, &e));
    return stream;
}

static void a_context(void)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    stk_value value;
    for (int which = 0; which < 5; which++) {
        stk_sender *sender = NULL;
        stk_stream *stream = open_context(h, "echo", &sender);
        stk_args *item = stk_sender_item(sender);
        switch (which) {
        case 0: PANICS(stk_sender_send(sender, 0, &e)); break;
        case 1: PANICS_MUTELY(stk_sender_finish(sender)); break;
        case 2: PANICS_MUTELY(stk_sender_reclaim(sender)); break;
        case 3: PANICS_MUTELY(stk_stream_started(stream, &value)); break;
        case 4: /* one over an item is that item's */
            PANICS_MUTELY(stk_args_push_i64(item, 1));
            POISONED(stk_sender_send(sender, 0, &e));
            IS(STK_OK, stk_args_push_i64(item, 1));
            WORKS(stk_sender_send(sender, 0, &e));
            break;
        }
        if (which < 3) {
            POISONED(stk_sender_send(sender, 0, &e));
            POISONED_MUTELY(stk_sender_finish(sender));
        }
        if (which == 3) POISONED(stk_stream_next(stream, 0, NULL, &e));
        stk_stream_free(stream), stk_sender_free(sender);
    }
    stk_sender *sender = NULL;
    stk_stream *stream = open_context(h, "in_started", &sender);
    IS(STK_OK, stk_sender_finish(sender));
    WORKS(stk_stream_wait(stream, STK_FOREVER, &e));
    stk_stream_free(stream), stk_sender_free(sender);
    stream = open_context(h, "in_next", &sender);
    FAILS(STK_APP, "STK_PANIC", stk_stream_wait(stream, STK_FOREVER, &e));
    stk_stream_free(stream), stk_sender_free(sender);
    for (int i = 0; i < 100; i++) CHECK(ask(h.client, "i64", i) == i); /* its place among the 64 is free */
    host_down(h);
}

/* Functions without a handle. */
static void the_rest(void)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    stk_result *result = NULL;
    stk_client *client = NULL;
    stk_value value, other;
    stk_iter iter;
    stk_lease lease;
    int64_t n = 0;
    size_t len = 0;
    PANICS(stk_client_connect(0, 0, &client, &e));
    PANICS(stk_init(NULL, 0, NULL, &e));
    WORKS(run_i64(h.client, "i64", 3, &result, &e));
    IS(STK_OK, stk_result_value(result, &value));
    PANICS_MUTELY(stk_value_i64(&value, &n));
    PANICS_MUTELY(stk_value_len(&value, &len));
    PANICS_MUTELY(stk_value_get(&value, STK_STR("x"), &other));
    PANICS_MUTELY(stk_value_iter(&value, &iter));
    memset(&iter, 0, sizeof iter);
    PANICS_MUTELY(stk_iter_next(&iter, NULL, &other));
    CHECK(stk_value_i64(&value, &n) == STK_OK && n == 3); /* a view is not poisoned: nothing in it is changed */
    stk_result_free(result);
    WORKS(stk_lease_new(h.client, 10, &lease, &e));
    PANICS_MUTELY(stk_lease_release(lease));
    IS(STK_OK, stk_lease_release(lease));
    host_down(h);
}

static void in_callbacks(void)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    CHECK(ask(h.client, "in_call", 5) == 5);
    IS(STK_APP, run_i64(h.client, "in_reply", 5, NULL, &e));
    CHECK(strcmp(stk_error_class(e), "STK_PANIC") == 0);
    stk_error_free(e), e = NULL;
    FAILS(STK_APP, "panic", run_i64(h.client, "in_reply_unseen", 5, NULL, &e));
    FAILS(STK_APP, "panic", run_i64(h.client, "in_reply_then", 5, NULL, &e));
    FAILS(STK_APP, "STK_PANIC", run_i64(h.client, "in_fail", 5, NULL, &e));
    FAILS(STK_APP, "STK_PANIC", run_i64(h.client, "in_reply_lease", 5, NULL, &e));
    FAILS(STK_APP, "STK_PANIC", run_i64(h.client, "in_send", 5, NULL, &e));
    stk_result *result = NULL;
    stk_value list;
    size_t items = 0;
    WORKS(run_i64(h.client, "in_item", 5, &result, &e));
    CHECK(stk_result_value(result, &list) == STK_OK && stk_value_len(&list, &items) == STK_OK && items == 1);
    stk_result_free(result);
    WORKS(run_i64(h.client, "i64", 6, &result, &e));
    CHECK(stk_result_worker(result) == 1); /* the first worker still */
    stk_result_free(result);
    host_down(h);
}

int main(int argc, char **argv)
{
    static const stk_app apps[] = {{.struct_size = sizeof(stk_app), .name = "t", .call = app}};
    static const test tests[] = {
        TEST(a_client), TEST(a_pool), TEST(a_configuration), TEST(arguments), TEST(a_result), TEST(a_stream), TEST(a_context), TEST(the_rest), TEST(in_callbacks),
    };
    stk_error *e = NULL;
    if (stk_init(apps, 1, NULL, &e)) return stk_error_print(e);
    return run_tests(tests, COUNT(tests), argc, argv);
}
