/* Calls that an app makes in the call that it is in: every way to make one, its limits, and what becomes of it with the outer
 * one. */
#include "check.h"

#include <pthread.h>

/* --- in a worker --- */

static int64_t heeding; /* how many calls have begun to wait for a word */
static int64_t told; /* how many calls were told that nobody waits for them */
static stk_pending *left; /* by a call that has ended */

static stk_args *one(const stk_client *client, int64_t n)
{
    stk_args *args = stk_args_new(client);
    stk_args_push_i64(args, n);
    return args;
}

/* Executes an action of this app, and answers what it answers and `more`; or fails as it did. */
static stk_status pass_on(const stk_call *call, stk_reply *reply, const char *action, int64_t n, int64_t more, stk_options options)
{
    const stk_client *client = stk_call_client(call);
    stk_result *result = NULL;
    stk_error *e = NULL;
    int64_t answer = 0;
    options.struct_size = sizeof options;
    if (stk_execute(client, STK_STR("t"), S(action), one(client, n), &options, &result, &e)) return stk_reply_error(reply, e);
    const stk_status status = stk_result_i64(result, &answer);
    stk_result_free(result);
    return status ? status : stk_reply_i64(reply, answer + more);
}

#define GOOD(cond) (void)(line = line || (cond) ? line : __LINE__)

/* The number of the first line that is not as it should be. */
static int64_t misuse(const stk_call *call, stk_reply *reply)
{
    int line = 0;
    const stk_client *client = stk_call_client(call);
    stk_completions *queue = NULL;
    stk_result *result = NULL;
    stk_error *e = NULL;
    stk_lease lease;
    size_t n = 5;
    GOOD(client && client == stk_call_client(call) && stk_call_client(NULL) == NULL);
    GOOD(stk_lease_new(client, 1, &lease, &e) == STK_INVALID && strstr(stk_error_message(e), "that of a call"));
    stk_error_free(e), e = NULL;
    GOOD(stk_completions_new(client, &queue, NULL) == STK_INVALID && queue == NULL);
    GOOD(stk_client_worker_pids(client, NULL, 0, &n) == STK_INVALID && n == 5);
    stk_client_free((stk_client *)(uintptr_t)client); /* refused */
    GOOD(stk_execute(client, STK_STR("x"), STK_STR("i64"), NULL, NULL, &result, &e) == STK_BAD_REQUEST);
    stk_error_free(e), e = NULL;
    GOOD(stk_execute(client, STK_STR("t"), STK_STR("i64"), one(client, 4), NULL, NULL, &e) == STK_OK && !result);
    GOOD(stk_reply_error(reply, NULL) == STK_INVALID && stk_reply_error(NULL, NULL) == STK_INVALID);
    GOOD(stk_execute(NULL, STK_STR("t"), STK_STR("i64"), NULL, NULL, NULL, &e) == STK_INVALID);
    GOOD(stk_reply_error(NULL, e) == STK_INVALID); /* and has consumed it */
    return line;
}

typedef struct {
    const stk_client *client;
    int64_t sum;
} part;

static void *executes(void *given)
{
    part *p = given;
    stk_result *result;
    int64_t n;
    for (int64_t i = 0; i < 50; i++) {
        if (stk_execute(p->client, STK_STR("t"), STK_STR("i64"), one(p->client, i), NULL, &result, NULL)) return "not executed";
        if (stk_result_i64(result, &n) == STK_OK) p->sum += n;
        stk_result_free(result);
    }
    return NULL;
}

static stk_status in_threads(const stk_call *call, stk_reply *reply)
{
    pthread_t threads[3];
    part parts[3];
    int64_t sum = 0;
    for (int t = 0; t < 3; t++) {
        parts[t] = (part){stk_call_client(call), 0};
        if (pthread_create(&threads[t], NULL, executes, &parts[t])) return STK_OS;
    }
    for (int t = 0; t < 3; t++) {
        void *wrong = NULL;
        pthread_join(threads[t], &wrong);
        sum += wrong ? -1000000 : parts[t].sum;
    }
    return stk_reply_i64(reply, sum);
}

static stk_status submits(const stk_call *call, stk_reply *reply, int64_t n)
{
    const stk_client *client = stk_call_client(call);
    stk_pending *all[32];
    stk_result *result;
    stk_error *e = NULL;
    int64_t sum = 0, got = 0;
    for (int64_t i = 0; i < n; i++)
        if (stk_submit(client, STK_STR("t"), STK_STR("i64"), one(client, i), NULL, &all[i], &e)) return stk_reply_error(reply, e);
    for (int64_t i = 0; i < n; i++) {
        if (stk_pending_wait(all[i], STK_FOREVER, &result, &e)) return stk_reply_error(reply, e);
        if (stk_result_i64(result, &got) == STK_OK) sum += got;
        stk_result_free(result), stk_pending_free(all[i]);
    }
    return stk_reply_i64(reply, sum);
}

static stk_status takes_a_stream(const stk_call *call, stk_reply *reply, int64_t n)
{
    const stk_client *client = stk_call_client(call);
    stk_stream *stream;
    stk_result *item;
    stk_error *e = NULL;
    stk_status status;
    int64_t sum = 0, got = 0;
    if (stk_stream_open(client, STK_STR("t"), STK_STR("count"), one(client, n), NULL, &stream, &e)) return stk_reply_error(reply, e);
    while (!(status = stk_stream_next(stream, STK_FOREVER, &item, &e))) {
        if (stk_result_i64(item, &got) == STK_OK) sum += got;
        stk_result_free(item);
    }
    stk_stream_free(stream);
    return status == STK_END ? stk_reply_i64(reply, sum) : stk_reply_error(reply, e);
}

static stk_status holds_a_context(const stk_call *call, stk_reply *reply, int64_t n)
{
    const stk_client *client = stk_call_client(call);
    stk_stream *stream;
    stk_sender *sender;
    stk_error *e = NULL;
    stk_value value;
    int64_t sum = -1;
    if (stk_context_open(client, STK_STR("t"), STK_STR("sum"), NULL, NULL, &stream, &sender, &e)) return stk_reply_error(reply, e);
    for (int64_t i = 0; i < n; i++) {
        stk_args_push_i64(stk_sender_item(sender), i);
        if (stk_sender_send(sender, STK_FOREVER, &e)) return stk_reply_error(reply, e);
    }
    stk_sender_finish(sender);
    if (stk_stream_wait(stream, STK_FOREVER, &e)) return stk_reply_error(reply, e);
    if (stk_stream_value(stream, &value) == STK_OK) stk_value_i64(&value, &sum);
    stk_sender_free(sender), stk_stream_free(stream);
    return stk_reply_i64(reply, sum);
}

static stk_status sum(const stk_call *call, stk_reply *reply)
{
    stk_sink *sink;
    stk_inbox *inbox;
    stk_result *item;
    int64_t all = 0, n = 0;
    stk_status status = stk_call_started(call, reply, &sink, &inbox);
    while (!status && !(status = stk_inbox_next(inbox, STK_FOREVER, &item))) {
        if (stk_result_i64(item, &n) == STK_OK) all += n;
        stk_result_free(item);
    }
    return status == STK_END ? stk_reply_i64(reply, all) : status;
}

static stk_status app(uintptr_t user, const stk_call *call, stk_reply *reply)
{
    const stk_options none = {0};
    int64_t n = 0;
    stk_error *e = NULL;
    (void)user;
    if (called(call, "sum")) return sum(call, reply);
    if (stk_call_i64(call, 0, &n)) return STK_BAD_REQUEST;
    if (called(call, "i64")) return stk_reply_i64(reply, n);
    if (called(call, "pid")) return stk_reply_i64(reply, getpid());
    if (called(call, "heeding")) return stk_reply_i64(reply, heeding);
    if (called(call, "told")) return stk_reply_i64(reply, told);
    if (called(call, "deadline")) return stk_reply_i64(reply, (int64_t)stk_call_deadline_ns(call));
    if (called(call, "fail")) return stk_reply_fail(reply, STK_STR("OutOfCoal"), STK_STR("nothing left"));
    if (called(call, "abort")) abort();
    if (called(call, "heed")) {
        heeding++;
        if (stk_call_wait_cancelled(call, 600000)) told++;
        return STK_OK;
    }
    if (called(call, "count")) {
        stk_sink *sink;
        stk_status status = stk_call_sink(call, NULL, &sink);
        for (int64_t i = 0; i < n && !status; i++) stk_reply_i64(stk_sink_item(sink), i), status = stk_sink_send(sink);
        return status;
    }
    if (called(call, "add")) return pass_on(call, reply, "i64", n, 1, none);
    if (called(call, "deep")) return n ? pass_on(call, reply, "deep", n - 1, 1, none) : stk_reply_i64(reply, 0);
    if (called(call, "inner_fails")) return pass_on(call, reply, "fail", n, 0, none);
    if (called(call, "inner_inner_fails")) return pass_on(call, reply, "inner_fails", n, 0, none);
    if (called(call, "inner_dies")) return pass_on(call, reply, "abort", n, 0, none);
    if (called(call, "inner_deadline")) return pass_on(call, reply, "deadline", n, 0, none);
    if (called(call, "inner_late")) return pass_on(call, reply, "heed", n, 0, (stk_options){.deadline_ms = 50});
    if (called(call, "inner_heeds")) return pass_on(call, reply, "heed", n, 0, none);
    if (called(call, "own_error")) return stk_reply_error(reply, stk_error_new(STK_STR("Wet"), STK_STR("the coal is wet")));
    if (called(call, "interfaces_error")) { /* one that no other process has said */
        stk_execute(stk_call_client(call), (stk_str){NULL, 1}, STK_STR("i64"), NULL, NULL, NULL, &e);
        return stk_reply_error(reply, e);
    }
    if (called(call, "bare_status")) { /* the app says no more */
        const stk_client *client = stk_call_client(call);
        return stk_execute(client, STK_STR("t"), STK_STR("fail"), one(client, n), NULL, NULL, NULL);
    }
    if (called(call, "submits")) return submits(call, reply, n);
    if (called(call, "streams")) return takes_a_stream(call, reply, n);
    if (called(call, "contexts")) return holds_a_context(call, reply, n);
    if (called(call, "in_threads")) return in_threads(call, reply);
    if (called(call, "misuse")) return n = misuse(call, reply), stk_reply_i64(reply, n);
    if (called(call, "leaves")) {
        const stk_client *client = stk_call_client(call);
        return stk_submit(client, STK_STR("t"), STK_STR("heed"), one(client, n), NULL, &left, NULL) ? STK_APP : stk_reply_i64(reply, n);
    }
    if (called(call, "looks")) { /* at what was left: the call that it was made in has ended */
        const stk_status status = stk_pending_wait(left, STK_FOREVER, NULL, &e);
        const uint32_t by = stk_error_cancelled_by(e);
        stk_error_free(e), stk_pending_free(left);
        return say(reply, status == STK_CANCELLED && by == STK_BY_PARENT, stk_status_name(status));
    }
    return stk_call_no_action(call);
}

/* --- in the host --- */

static host threads(size_t n)
{
    stk_config *config = workers(2);
    stk_config_set_threads(config, n);
    return host_up(config);
}

static void every_way_to_call(void)
{
    host h = threads(3);
    for (int64_t i = 0; i < 20; i++) CHECK(ask(h.client, "add", i) == i + 1);
    CHECK(ask(h.client, "submits", 32) == 31 * 32 / 2);
    CHECK(ask(h.client, "streams", 3000) == 2999 * 3000 / 2);
    CHECK(ask(h.client, "contexts", 3000) == 2999 * 3000 / 2);
    CHECK(ask(h.client, "in_threads", 0) == 3 * (49 * 50 / 2));
    const int64_t line = ask(h.client, "misuse", 0);
    if (line) CHECK(!"what was wrong is in:"), fprintf(stderr, "%s:%d\n", __FILE__, (int)line);
    CHECK(ask(h.client, "add", 5) == 6);
    host_down(h);
}

static void eight_deep_and_no_deeper(void)
{
    host h = threads(8);
    stk_error *e = NULL;
    for (int64_t n = 0; n <= 8; n++) CHECK(ask(h.client, "deep", n) == n);
    FAILS(STK_APP, "nested 8 deep", run_i64(h.client, "deep", 9, NULL, &e));
    CHECK(ask(h.client, "deep", 8) == 8);
    host_down(h);
    h = host_up(workers(1)); /* one thread, which waits for itself */
    FAILS(STK_APP, "would never run", run_i64(h.client, "add", 1, NULL, &e));
    FAILS(STK_APP, "would never run", run_i64(h.client, "contexts", 1, NULL, &e));
    CHECK(ask(h.client, "i64", 1) == 1);
    host_down(h);
}

static void failures_say_where_they_are_from(void)
{
    host h = threads(3);
    stk_error *e = NULL;
    uint32_t pid = 0;
    uint16_t life = 0;
    IS(STK_APP, run_i64(h.client, "inner_inner_fails", 0, NULL, &e));
    CHECK(strcmp(stk_error_class(e), "OutOfCoal") == 0 && strstr(stk_error_message(e), "nothing left"));
    CHECK(strcmp(stk_error_source(e, &pid, &life), "t") == 0 && pid && life && stk_error_relay_count(e) == 2);
    CHECK(strcmp(stk_error_relay(e, 1, &pid, NULL), "t") == 0 && pid);
    stk_error_free(e), e = NULL;
    IS(STK_APP, run_i64(h.client, "own_error", 0, NULL, &e));
    CHECK(strcmp(stk_error_class(e), "Wet") == 0 && strstr(stk_error_message(e), "the coal is wet"));
    stk_error_free(e), e = NULL;
    IS(STK_APP, run_i64(h.client, "interfaces_error", 0, NULL, &e));
    CHECK(strcmp(stk_error_class(e), "STK_INVALID") == 0 && strstr(stk_error_message(e), "`app`"));
    stk_error_free(e), e = NULL;
    FAILS(STK_APP, "bare_status returned STK_APP", run_i64(h.client, "bare_status", 0, NULL, &e));
    host_down(h);
    h = threads(1); /* the inner call is the other worker's */
    IS(STK_APP, run_i64(h.client, "inner_dies", 0, NULL, &e));
    CHECK(strcmp(stk_error_class(e), "WorkerDied") == 0 && strstr(stk_error_message(e), "signal 6"));
    stk_error_free(e);
    host_down(h);
}

static int64_t ask_with(host h, const char *action, stk_options options, stk_error **e)
{
    int64_t n = -1;
    stk_result *result = NULL;
    options.struct_size = sizeof options;
    if (stk_execute(h.client, STK_STR("t"), S(action), one(h.client, 0), &options, &result, e)) return -1;
    IS(STK_OK, stk_result_i64(result, &n));
    stk_result_free(result);
    return n;
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void times_and_cancels_are_inherited(void)
{
    host h = threads(3);
    stk_error *e = NULL;
    const int64_t before = now_ns(), until = ask_with(h, "inner_deadline", (stk_options){.deadline_ms = 10000}, &e);
    CHECK(until >= before + 10000000000 && until <= now_ns() + 10000000000); /* the outer call's */

    CHECK(ask_with(h, "inner_late", (stk_options){0}, &e) == -1); /* its own, and earlier: an error of the app's */
    CHECK(stk_error_status(e) == STK_APP && strcmp(stk_error_class(e), "Deadline") == 0);
    stk_error_free(e), e = NULL;
    CHECK(ask_with(h, "inner_heeds", (stk_options){.deadline_ms = 100}, &e) == -1);
    CHECK(stk_error_status(e) == STK_DEADLINE);
    stk_error_free(e), e = NULL;

    stk_pending *pending = NULL;
    WORKS(stk_submit(h.client, STK_STR("t"), STK_STR("inner_heeds"), one(h.client, 0), NULL, &pending, &e));
    IS(STK_PENDING, stk_pending_wait(pending, 100, NULL, &e));
    IS(STK_CANCELLED, stk_pending_cancel(pending, NULL, NULL));
    stk_pending_free(pending);
    host_down(h);

    stk_config *config = workers(1); /* one process, which counts */
    stk_config_set_threads(config, 3);
    h = host_up(config);
    WORKS(stk_submit(h.client, STK_STR("t"), STK_STR("inner_heeds"), one(h.client, 0), NULL, &pending, &e));
    UNTIL(ask(h.client, "heeding", 0) == 1);
    IS(STK_PENDING, stk_pending_wait(pending, 0, NULL, &e));
    stk_pending_free(pending);
    UNTIL(ask(h.client, "told", 0) == 1);
    CHECK(ask(h.client, "leaves", 3) == 3);
    UNTIL(ask(h.client, "heeding", 0) == 2);
    WORKS(run_i64(h.client, "looks", 0, NULL, &e));
    UNTIL(ask(h.client, "told", 0) == 2);
    host_down(h);
}

int main(int argc, char **argv)
{
    static const stk_app apps[] = {{.struct_size = sizeof(stk_app), .name = "t", .call = app}};
    static const test tests[] = {
        TEST(every_way_to_call),
        TEST(eight_deep_and_no_deeper),
        TEST(failures_say_where_they_are_from),
        TEST(times_and_cancels_are_inherited),
    };
    stk_error *e = NULL;
    if (stk_init(apps, 1, NULL, &e)) return stk_error_print(e);
    return run_tests(tests, COUNT(tests), argc, argv);
}
