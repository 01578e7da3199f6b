/* NULL everywhere it can stand, one place at a time; and pointers that no object has, lengths that cannot be, text that is
 * none, numbers without a meaning, structs of another version. A status each, and nothing written. */
#include "check.h"

static void *bad[2]; /* NULL, and what is not aligned */
static uint64_t room[64];
/* The bad pointer of this round, of a type. */
#define P(type) ((type *)bad[k])
#define EACH_BAD for (int k = 0; k < 2; k++)

static const stk_str not_utf8 = {"ab\xffz", 4}, null_with_length = {NULL, 1}, too_long = {"x", SIZE_MAX};

/* In a worker: the number of the first line that is not as it should be. */
#define INVALID(call) (void)(line = line ? line : (call) == STK_INVALID ? 0 : __LINE__)

static int64_t calls_and_replies(const stk_call *call, stk_reply *reply)
{
    int line = 0;
    bool b;
    int64_t n;
    double f;
    stk_str text;
    stk_bytes bytes;
    stk_value value;
    stk_lease lease;
    stk_sink *sink;
    stk_inbox *inbox;
    stk_result *item;
    const stk_str texts[] = {not_utf8, null_with_length, too_long};
    INVALID(stk_call_sink(call, bad[1], &sink));
    EACH_BAD
    {
        INVALID(stk_call_arg(P(stk_call), 0, &value)), INVALID(stk_call_args(P(stk_call), &value));
        INVALID(stk_call_named_args(P(stk_call), &value)), INVALID(stk_call_named(P(stk_call), STK_STR("x"), &value));
        INVALID(stk_call_bool(P(stk_call), 0, &b)), INVALID(stk_call_i64(P(stk_call), 0, &n));
        INVALID(stk_call_f64(P(stk_call), 0, &f)), INVALID(stk_call_str(P(stk_call), 0, &text));
        INVALID(stk_call_bytes(P(stk_call), 0, &bytes)), INVALID(stk_call_lease(P(stk_call), 1, &lease));
        INVALID(stk_call_check_deadline(P(stk_call))), INVALID(stk_call_no_action(P(stk_call)));
        if (stk_call_len(P(stk_call)) || stk_call_deadline_ns(P(stk_call))) return __LINE__;
        if (stk_call_app(P(stk_call)).len || stk_call_action(P(stk_call)).len) return __LINE__;
        INVALID(stk_call_arg(call, 0, P(stk_value))), INVALID(stk_call_args(call, P(stk_value)));
        INVALID(stk_call_named_args(call, P(stk_value))), INVALID(stk_call_named(call, STK_STR("x"), P(stk_value)));
        INVALID(stk_call_i64(call, 0, P(int64_t))), INVALID(stk_call_f64(call, 0, P(double)));
        INVALID(stk_call_str(call, 0, P(stk_str))), INVALID(stk_call_bytes(call, 0, P(stk_bytes)));
        INVALID(stk_call_lease(call, 1, P(stk_lease)));
        INVALID(stk_call_sink(P(stk_call), NULL, &sink)), INVALID(stk_call_sink(call, NULL, P(stk_sink *)));
        INVALID(stk_sink_send(P(stk_sink))), INVALID(stk_sink_finish(P(stk_sink)));
        INVALID(stk_call_started(P(stk_call), reply, &sink, &inbox)), INVALID(stk_call_started(call, P(stk_reply), &sink, &inbox));
        INVALID(stk_call_started(call, reply, P(stk_sink *), &inbox)), INVALID(stk_call_started(call, reply, &sink, P(stk_inbox *)));
        INVALID(stk_inbox_next(P(stk_inbox), 0, &item));
        if (stk_sink_item(P(stk_sink)) || stk_call_client(P(stk_call))) return __LINE__;
        INVALID(stk_reply_error(P(stk_reply), NULL)), INVALID(stk_reply_error(P(stk_reply), stk_error_new(not_utf8, not_utf8)));
        INVALID(stk_reply_error(P(stk_reply), stk_error_new(STK_STR("A"), STK_STR("b"))));
        INVALID(stk_reply_none(P(stk_reply))), INVALID(stk_reply_bool(P(stk_reply), true));
        INVALID(stk_reply_i64(P(stk_reply), 1)), INVALID(stk_reply_f64(P(stk_reply), 1));
        INVALID(stk_reply_str(P(stk_reply), STK_STR("x"))), INVALID(stk_reply_bytes(P(stk_reply), "x", 1));
        memset(&lease, 0, sizeof lease);
        INVALID(stk_reply_lease(P(stk_reply), lease, 0));
        INVALID(stk_reply_begin_list(P(stk_reply))), INVALID(stk_reply_begin_dict(P(stk_reply)));
        INVALID(stk_reply_key(P(stk_reply), STK_STR("x"))), INVALID(stk_reply_end(P(stk_reply)));
        INVALID(stk_reply_fail(P(stk_reply), STK_STR("x"), STK_STR("y")));
    }
    INVALID(stk_call_bool(call, 0, NULL));
    for (size_t i = 0; i < COUNT(texts); i++) INVALID(stk_call_named(call, texts[i], &value));
    return line;
}

/* The mistake of a reply is remembered, so one a call. */
static stk_status replies(const stk_call *call, stk_reply *reply, int64_t which)
{
    const stk_str texts[] = {not_utf8, null_with_length, too_long};
    stk_status status = STK_OK;
    (void)call;
    if (which < 3) status = stk_reply_str(reply, texts[which]);
    else if (which < 6) stk_reply_begin_dict(reply), status = stk_reply_key(reply, texts[which - 3]);
    else if (which < 9) status = stk_reply_fail(reply, texts[which - 6], STK_STR("x"));
    else if (which < 12) status = stk_reply_fail(reply, STK_STR("x"), texts[which - 9]);
    else if (which == 12) status = stk_reply_bytes(reply, NULL, 1);
    else if (which == 13) status = stk_reply_bytes(reply, "x", SIZE_MAX);
    return status == STK_INVALID ? STK_INVALID : stk_reply_fail(reply, STK_STR("Check"), STK_STR("was not refused"));
}

static stk_status app(uintptr_t user, const stk_call *call, stk_reply *reply)
{
    int64_t n = 0;
    (void)user;
    if (called(call, "calls_and_replies")) return n = calls_and_replies(call, reply), stk_reply_i64(reply, n);
    if (called(call, "replies")) return stk_call_i64(call, 0, &n) ? STK_BAD_REQUEST : replies(call, reply, n);
    return stk_call_i64(call, 0, &n) ? STK_BAD_REQUEST : stk_reply_i64(reply, n);
}

static host h;

static void errors_and_texts(void)
{
    EACH_BAD
    {
        CHECK(stk_error_status(P(stk_error)) == STK_OK && !*stk_error_message(P(stk_error)));
        CHECK(!*stk_error_class(P(stk_error)) && !*stk_error_traceback(P(stk_error)));
        CHECK(stk_error_started(P(stk_error)) == -1 && !stk_error_worker_pid(P(stk_error)) && !stk_error_errno(P(stk_error)));
        CHECK(!stk_error_cause(P(stk_error), P(int32_t)) && !stk_error_bound(P(stk_error), P(uint64_t)));
        CHECK(stk_error_print(P(stk_error)) == 1);
        stk_error_free(P(stk_error));
        CHECK(stk_pool_arbiter_pid(P(stk_pool)) == 0 && stk_result_worker(P(stk_result)) == 0);
        stk_pool_free(P(stk_pool)), stk_client_free(P(stk_client)), stk_args_free(P(stk_args));
        stk_result_free(P(stk_result)), stk_config_free(P(stk_config));
    }
    CHECK(stk_error_new(not_utf8, STK_STR("x")) == NULL && stk_error_new(STK_STR("x"), not_utf8) == NULL);
    CHECK(stk_error_new(null_with_length, STK_STR("x")) == NULL && stk_error_new(STK_STR("x"), too_long) == NULL);
    CHECK(!stk_str_eq(null_with_length, null_with_length) && !stk_str_eq(too_long, too_long));
    CHECK(stk_str_eq((stk_str){NULL, 0}, STK_STR("")) && stk_str_eq(not_utf8, not_utf8)); /* bytes are bytes */
}

static void configurations(void)
{
    stk_pool *pool = NULL;
    stk_error *e = NULL;
    EACH_BAD
    {
        IS(STK_INVALID, stk_config_add_app(P(stk_config), STK_STR("t")));
        IS(STK_INVALID, stk_config_set_workers(P(stk_config), 1));
        IS(STK_INVALID, stk_config_set_threads(P(stk_config), 1));
        IS(STK_INVALID, stk_config_set_wait(P(stk_config), 0));
        IS(STK_INVALID, stk_config_set_timeout_ms(P(stk_config), 1));
        IS(STK_INVALID, stk_config_set_kill_grace_ms(P(stk_config), 1));
        IS(STK_INVALID, stk_config_set_stall_ms(P(stk_config), 1));
        IS(STK_INVALID, stk_config_set_stop_grace_ms(P(stk_config), 1));
        IS(STK_INVALID, stk_config_set_boot_timeout_ms(P(stk_config), 1));
        IS(STK_INVALID, stk_config_set_start_timeout_ms(P(stk_config), 1));
        IS(STK_INVALID, stk_config_set_restart_limit(P(stk_config), 1, 1));
        IS(STK_INVALID, stk_config_set_backoff_ms(P(stk_config), 1, 1));
        IS(STK_INVALID, stk_config_set_helper(P(stk_config), STK_STR("/bin/true")));
        IS(STK_INVALID, stk_config_set_fork(P(stk_config)));
        IS(STK_INVALID, stk_config_keep_fd(P(stk_config), 0));
        FAILS(STK_INVALID, "`pool`", stk_pool_start(stk_config_new(), P(stk_pool *), &e));
    }
    FAILS(STK_INVALID, "not aligned", stk_pool_start((stk_config *)bad[1], &pool, &e));
    CHECK(pool == NULL);
    stk_config *config = stk_config_new();
    IS(STK_INVALID, stk_config_add_app(config, not_utf8));
    IS(STK_INVALID, stk_config_add_app(config, null_with_length));
    IS(STK_INVALID, stk_config_set_helper(config, null_with_length));
    IS(STK_INVALID, stk_config_set_helper(config, STK_STR("a\0b")));
    IS(STK_INVALID, stk_config_set_helper(config, too_long));
    IS(STK_INVALID, stk_config_set_wait(config, 3));
    IS(STK_INVALID, stk_config_set_wait(config, UINT32_MAX));
    IS(STK_INVALID, stk_config_keep_fd(config, -1));
    IS(STK_INVALID, stk_config_keep_fd(config, INT32_MIN));
    stk_config_free(config);
}

static void pools_and_clients(void)
{
    stk_client *client = NULL;
    stk_error *e = NULL;
    stk_lease lease;
    uint32_t pids[2];
    size_t n = 5;
    int32_t fd = -1;
    EACH_BAD
    {
        const char *word = k ? "not aligned" : "is NULL";
        FAILS(STK_INVALID, word, stk_pool_stop(P(stk_pool), &e)), FAILS(STK_INVALID, word, stk_pool_kill(P(stk_pool), &e));
        FAILS(STK_INVALID, word, stk_client_new(P(stk_pool), &client, &e));
        FAILS(STK_INVALID, word, stk_client_new(h.pool, P(stk_client *), &e));
        FAILS(STK_INVALID, word, stk_pool_client_fd(P(stk_pool), &fd, &e));
        FAILS(STK_INVALID, word, stk_pool_client_fd(h.pool, P(int32_t), &e));
        FAILS(STK_INVALID, word, stk_client_connect(0, 0, P(stk_client *), &e));
        FAILS(STK_INVALID, word, stk_client_connect_path(STK_STR("x"), 0, P(stk_client *), &e));
        IS(STK_INVALID, stk_config_set_app_library(P(stk_config), STK_STR("x")));
        FAILS(STK_INVALID, word, stk_lease_new(P(stk_client), 1, &lease, &e));
        FAILS(STK_INVALID, word, stk_lease_new(h.client, 1, P(stk_lease), &e));
        IS(STK_INVALID, stk_client_worker_pids(P(stk_client), pids, 2, &n));
        IS(STK_INVALID, stk_client_worker_pids(h.client, P(uint32_t), 2, &n));
        IS(STK_INVALID, stk_client_worker_pids(h.client, pids, 2, P(size_t)));
        stk_args *args = stk_args_new(P(stk_client));
        FAILS(STK_INVALID, "`client`", stk_execute(h.client, STK_STR("t"), STK_STR("i64"), args, NULL, NULL, &e));
        IS(STK_INVALID, stk_pool_stop(NULL, P(stk_error *))); /* nobody can be told */
    }
    CHECK(client == NULL && fd == -1 && n == 5);
    IS(STK_OK, stk_client_worker_pids(h.client, NULL, 0, &n));
    CHECK(n == 1);
    IS(STK_INVALID, stk_client_connect(-1, 0, &client, NULL));
    IS(STK_INVALID, stk_client_connect(0, 99, &client, NULL));
}

static void arguments(void)
{
    stk_lease lease = {NULL, 0, 0};
    const stk_str texts[] = {not_utf8, null_with_length, too_long};
    EACH_BAD
    {
        IS(STK_INVALID, stk_args_push_none(P(stk_args))), IS(STK_INVALID, stk_args_push_bool(P(stk_args), true));
        IS(STK_INVALID, stk_args_push_i64(P(stk_args), 1)), IS(STK_INVALID, stk_args_push_f64(P(stk_args), 1));
        IS(STK_INVALID, stk_args_push_str(P(stk_args), STK_STR("x")));
        IS(STK_INVALID, stk_args_push_bytes(P(stk_args), "x", 1)), IS(STK_INVALID, stk_args_push_lease(P(stk_args), lease));
        IS(STK_INVALID, stk_args_begin_list(P(stk_args))), IS(STK_INVALID, stk_args_begin_dict(P(stk_args)));
        IS(STK_INVALID, stk_args_end(P(stk_args))), IS(STK_INVALID, stk_args_key(P(stk_args), STK_STR("x")));
    }
    for (size_t i = 0; i < COUNT(texts); i++) {
        stk_args *args = stk_args_new(h.client);
        IS(STK_INVALID, stk_args_push_str(args, texts[i])), IS(STK_INVALID, stk_args_key(args, texts[i]));
        stk_args_free(args);
    }
    stk_args *args = stk_args_new(h.client);
    IS(STK_OK, stk_args_push_bytes(args, NULL, 0)), IS(STK_OK, stk_args_push_str(args, (stk_str){NULL, 0}));
    IS(STK_INVALID, stk_args_push_bytes(args, NULL, 1)), IS(STK_INVALID, stk_args_push_bytes(args, "x", SIZE_MAX));
    stk_args_free(args);
}

static void calls(void)
{
    stk_result *result = NULL;
    stk_stream *stream = NULL;
    stk_sender *sender = NULL;
    stk_canceller *canceller = NULL;
    stk_value value;
    stk_error *e = NULL;
    const stk_str texts[] = {not_utf8, null_with_length, too_long};
    const stk_str t = STK_STR("t"), a = STK_STR("a");
    stk_completions *queue = NULL;
    WORKS(stk_completions_new(h.client, &queue, &e));
    EACH_BAD
    {
        stk_args *args = stk_args_new(h.client);
        stk_args_push_i64(args, 1);
        FAILS(STK_INVALID, "`client`", stk_execute(P(stk_client), t, a, args, NULL, &result, &e));
        args = stk_args_new(h.client);
        FAILS(STK_INVALID, "`client`", stk_stream_open(P(stk_client), t, a, args, NULL, &stream, &e));
        args = stk_args_new(h.client);
        FAILS(STK_INVALID, "`stream`", stk_stream_open(h.client, t, a, args, NULL, P(stk_stream *), &e));
        FAILS(STK_INVALID, "`client`", stk_stream_to(P(stk_client), t, a, NULL, NULL, queue, 1, &e));
        FAILS(STK_INVALID, "`completions`", stk_stream_to(h.client, t, a, NULL, NULL, P(stk_completions), 1, &e));
        FAILS(STK_INVALID, "`completions`", stk_submit_to(h.client, t, a, NULL, NULL, P(stk_completions), 1, &e));
        FAILS(STK_INVALID, "`stream`", stk_stream_next(P(stk_stream), 0, &result, &e));
        FAILS(STK_INVALID, "`stream`", stk_stream_wait(P(stk_stream), 0, &e));
        FAILS(STK_INVALID, "`stream`", stk_stream_canceller(P(stk_stream), &canceller, &e));
        IS(STK_INVALID, stk_stream_value(P(stk_stream), &value)), IS(STK_INVALID, stk_stream_cancel(P(stk_stream)));
        IS(STK_INVALID, stk_stream_started(P(stk_stream), &value));
        args = stk_args_new(h.client);
        FAILS(STK_INVALID, "`client`", stk_context_open(P(stk_client), t, a, args, NULL, &stream, &sender, &e));
        FAILS(STK_INVALID, "`stream`", stk_context_open(h.client, t, a, NULL, NULL, P(stk_stream *), &sender, &e));
        FAILS(STK_INVALID, "`sender`", stk_context_open(h.client, t, a, NULL, NULL, &stream, P(stk_sender *), &e));
        FAILS(STK_INVALID, "`sender`", stk_sender_send(P(stk_sender), 0, &e));
        IS(STK_INVALID, stk_sender_finish(P(stk_sender))), IS(STK_INVALID, stk_sender_reclaim(P(stk_sender)));
        CHECK(stk_sender_item(P(stk_sender)) == NULL);
        stk_sender_free(P(stk_sender));
        stk_stream_free(P(stk_stream));
    }
    FAILS(STK_INVALID, "`args`", stk_execute(h.client, t, a, bad[1], NULL, &result, &e));
    FAILS(STK_INVALID, "`args`", stk_stream_open(h.client, t, a, bad[1], NULL, &stream, &e));
    FAILS(STK_INVALID, "`args`", stk_context_open(h.client, t, a, bad[1], NULL, &stream, &sender, &e));
    FAILS(STK_INVALID, "`options`", stk_context_open(h.client, t, a, NULL, bad[1], &stream, &sender, &e));
    FAILS(STK_INVALID, "`args`", stk_stream_to(h.client, t, a, bad[1], NULL, queue, 1, &e));
    FAILS(STK_INVALID, "`options`", stk_stream_to(h.client, t, a, NULL, bad[1], queue, 1, &e));
    CHECK(stk_completions_in_flight(queue) == 0);
    stk_completions_free(queue);
    FAILS(STK_INVALID, "`options`", stk_stream_open(h.client, t, a, NULL, bad[1], &stream, &e));
    FAILS(STK_INVALID, "`options`", stk_execute(h.client, t, a, NULL, bad[1], &result, &e));
    FAILS(STK_INVALID, "`result`", stk_execute(h.client, t, a, NULL, NULL, bad[1], &e));
    IS(STK_BAD_REQUEST, stk_execute(h.client, t, a, NULL, NULL, NULL, bad[1]));
    for (size_t i = 0; i < COUNT(texts); i++) {
        FAILS(STK_INVALID, "`app`", stk_execute(h.client, texts[i], a, NULL, NULL, &result, &e));
        FAILS(STK_INVALID, "`action`", stk_execute(h.client, t, texts[i], NULL, NULL, &result, &e));
        FAILS(STK_INVALID, "`app`", stk_stream_open(h.client, texts[i], a, NULL, NULL, &stream, &e));
        FAILS(STK_INVALID, "`action`", stk_stream_open(h.client, t, texts[i], NULL, NULL, &stream, &e));
    }
    CHECK(result == NULL && stream == NULL && sender == NULL && canceller == NULL && ask(h.client, "i64", 5) == 5);
    WORKS(stk_stream_open(h.client, t, STK_STR("i64"), NULL, NULL, &stream, &e)); /* without arguments, which is not right */
    FAILS(STK_INVALID, "`result`", stk_stream_next(stream, 0, bad[1], &e));
    EACH_BAD IS(STK_INVALID, stk_stream_value(stream, P(stk_value)));
    EACH_BAD IS(STK_INVALID, stk_stream_started(stream, P(stk_value)));
    EACH_BAD FAILS(STK_INVALID, "`canceller`", stk_stream_canceller(stream, P(stk_canceller *), &e));
    FAILS(STK_BAD_REQUEST, "index 0", stk_stream_next(stream, STK_FOREVER, &result, &e)); /* nothing was lost */
    stk_stream_free(stream);
}

static void results_and_values(void)
{
    stk_result *result = NULL;
    stk_error *e = NULL;
    stk_value value, other;
    stk_iter iter;
    bool b;
    int64_t n;
    double f;
    stk_str text;
    stk_bytes bytes;
    size_t len;
    WORKS(run_i64(h.client, "i64", 5, &result, &e));
    IS(STK_OK, stk_result_value(result, &value));
    EACH_BAD
    {
        IS(STK_INVALID, stk_result_value(P(stk_result), &other)), IS(STK_INVALID, stk_result_value(result, P(stk_value)));
        IS(STK_INVALID, stk_result_bool(P(stk_result), &b)), IS(STK_INVALID, stk_result_i64(P(stk_result), &n));
        IS(STK_INVALID, stk_result_i64(result, P(int64_t))), IS(STK_INVALID, stk_result_f64(P(stk_result), &f));
        IS(STK_INVALID, stk_result_f64(result, P(double))), IS(STK_INVALID, stk_result_str(P(stk_result), &text));
        IS(STK_INVALID, stk_result_str(result, P(stk_str))), IS(STK_INVALID, stk_result_bytes(P(stk_result), &bytes));
        IS(STK_INVALID, stk_result_bytes(result, P(stk_bytes)));
        IS(STK_INVALID, stk_value_bool(P(stk_value), &b)), IS(STK_INVALID, stk_value_i64(P(stk_value), &n));
        IS(STK_INVALID, stk_value_i64(&value, P(int64_t))), IS(STK_INVALID, stk_value_f64(P(stk_value), &f));
        IS(STK_INVALID, stk_value_f64(&value, P(double))), IS(STK_INVALID, stk_value_str(P(stk_value), &text));
        IS(STK_INVALID, stk_value_str(&value, P(stk_str))), IS(STK_INVALID, stk_value_bytes(P(stk_value), &bytes));
        IS(STK_INVALID, stk_value_bytes(&value, P(stk_bytes))), IS(STK_INVALID, stk_value_len(P(stk_value), &len));
        IS(STK_INVALID, stk_value_len(&value, P(size_t)));
        IS(STK_INVALID, stk_value_get(P(stk_value), STK_STR("x"), &other));
        IS(STK_INVALID, stk_value_get(&value, STK_STR("x"), P(stk_value)));
        IS(STK_INVALID, stk_value_iter(P(stk_value), &iter)), IS(STK_INVALID, stk_value_iter(&value, P(stk_iter)));
        IS(STK_INVALID, stk_iter_next(P(stk_iter), NULL, &other));
        memset(&iter, 0, sizeof iter);
        IS(STK_INVALID, stk_iter_next(&iter, NULL, P(stk_value)));
    }
    IS(STK_INVALID, stk_iter_next(&iter, bad[1], &other));
    IS(STK_INVALID, stk_result_bool(result, NULL)), IS(STK_INVALID, stk_value_bool(&value, NULL));
    stk_result_free(result);
}

static void in_a_worker(void)
{
    stk_error *e = NULL;
    CHECK(ask(h.client, "calls_and_replies", 0) == 0);
    if (check_failures) fprintf(stderr, "%s:%d\n", __FILE__, (int)ask(h.client, "calls_and_replies", 0));
    for (int64_t i = 0; i < 14; i++) {
        IS(STK_APP, run_i64(h.client, "replies", i, NULL, &e));
        CHECK(strcmp(stk_error_class(e), "STK_INVALID") == 0);
        stk_error_free(e), e = NULL;
    }
}

/* --- structs with a size --- */

typedef struct {
    stk_options options;
    uint64_t more[2];
} later_options;

static void options_of_every_size(void)
{
    stk_error *e = NULL;
    static const size_t sizes[] = {0, 1, 8, sizeof(stk_options) - 1, 1025, SIZE_MAX};
    later_options later;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        const stk_options options = {.struct_size = sizes[i]};
        FAILS(STK_INVALID, "struct_size", stk_execute(h.client, STK_STR("t"), STK_STR("a"), NULL, &options, NULL, &e));
    }
    memset(&later, 0, sizeof later);
    later.options.struct_size = sizeof later;
    stk_args *args = stk_args_new(h.client);
    stk_args_push_i64(args, 1);
    WORKS(stk_execute(h.client, STK_STR("t"), STK_STR("a"), args, &later.options, NULL, &e));
    later.more[1] = 1;
    FAILS(STK_INVALID, "does not know", stk_execute(h.client, STK_STR("t"), STK_STR("a"), NULL, &later.options, NULL, &e));
    stk_options options = {.struct_size = sizeof options, .idempotent = 2};
    FAILS(STK_INVALID, "idempotent", stk_execute(h.client, STK_STR("t"), STK_STR("a"), NULL, &options, NULL, &e));
    options.idempotent = 0, options.reserved = 1;
    FAILS(STK_INVALID, "reserved", stk_execute(h.client, STK_STR("t"), STK_STR("a"), NULL, &options, NULL, &e));
}

/* Apps of a later version of the header: the array's elements are further apart. */
typedef struct {
    stk_app app;
    uint64_t more[3];
} later_app;

static later_app apps[2];

static void apps_of_a_later_version(void)
{
    stk_error *e = NULL;
    WORKS(stk_execute(h.client, STK_STR("second"), STK_STR("calls_and_replies"), NULL, NULL, NULL, &e));
}

static int init_failures;

/* Before the one that counts, also in the copies of this program: each is refused and leaves nothing behind. */
static void inits_that_make_no_sense(void)
{
    static char long_name[257];
    stk_error *e = NULL;
    stk_app one = {.struct_size = sizeof one, .name = "t", .call = app}, two[2] = {one, one}, wrong;
    stk_init_options options = {.struct_size = sizeof options};
    memset(long_name, 'x', 256);
    static const size_t sizes[] = {0, 8, sizeof(stk_app) - 1, 1025, SIZE_MAX};
    FAILS(STK_INVALID, "NULL", stk_init(NULL, 1, NULL, &e));
    FAILS(STK_INVALID, "not aligned", stk_init(bad[1], 1, NULL, &e));
    FAILS(STK_INVALID, "not aligned", stk_init(&one, 1, bad[1], &e));
    FAILS(STK_INVALID, "256", stk_init(&one, 257, NULL, &e));
    FAILS(STK_INVALID, "256", stk_init(&one, SIZE_MAX, NULL, &e));
    IS(STK_INVALID, stk_init(NULL, 1, NULL, NULL));
    for (size_t i = 0; i < COUNT(sizes); i++) {
        wrong = one, wrong.struct_size = sizes[i];
        FAILS(STK_INVALID, "struct_size", stk_init(&wrong, 1, NULL, &e));
        options.struct_size = sizes[i] == sizeof(stk_app) - 1 ? sizeof options - 1 : sizes[i];
        FAILS(STK_INVALID, "struct_size", stk_init(&one, 1, &options, &e));
    }
    options.struct_size = sizeof options;
    wrong = one, wrong.name = NULL;
    FAILS(STK_INVALID, "name", stk_init(&wrong, 1, NULL, &e));
    wrong.name = "";
    FAILS(STK_INVALID, "name", stk_init(&wrong, 1, NULL, &e));
    wrong.name = "\xff\xfe";
    FAILS(STK_INVALID, "UTF-8", stk_init(&wrong, 1, NULL, &e));
    wrong.name = long_name;
    FAILS(STK_INVALID, "255", stk_init(&wrong, 1, NULL, &e));
    wrong = one, wrong.call = NULL;
    FAILS(STK_INVALID, "call", stk_init(&wrong, 1, NULL, &e));
    FAILS(STK_INVALID, "\"t\"", stk_init(two, 2, NULL, &e)); /* one name twice */
    apps[1].more[2] = 1;
    FAILS(STK_INVALID, "does not know", stk_init(&apps[0].app, 2, NULL, &e));
    apps[1].more[2] = 0;
    options.reserved = 1;
    FAILS(STK_INVALID, "reserved", stk_init(&one, 1, &options, &e));
    options.reserved = 0, options.log_level = 6;
    FAILS(STK_INVALID, "log_level", stk_init(&one, 1, &options, &e));
    options.log_level = UINT32_MAX;
    FAILS(STK_INVALID, "log_level", stk_init(&one, 1, &options, &e));
    init_failures = check_failures;
}

static void inits(void)
{
    CHECK(init_failures == 0);
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        TEST(inits),
        TEST(errors_and_texts),
        TEST(configurations),
        TEST(pools_and_clients),
        TEST(arguments),
        TEST(calls),
        TEST(results_and_values),
        TEST(in_a_worker),
        TEST(options_of_every_size),
        TEST(apps_of_a_later_version),
    };
    stk_error *e = NULL;
    bad[1] = (char *)room + 1;
    apps[0].app.name = "t", apps[1].app.name = "second";
    for (size_t i = 0; i < 2; i++) apps[i].app.struct_size = sizeof apps[i], apps[i].app.call = app;
    if (stk_init(&apps[0].app, 2, NULL, &e)) return stk_error_print(e);
    inits_that_make_no_sense(); /* after it: in the copy that supervises, the first stk_init does not return */
    h = host_up(NULL);
    const int status = run_tests(tests, COUNT(tests), argc, argv);
    host_down(h);
    return status;
}
