/* Items of a call: whole, in order, with one end, whoever stops when; and the sink that they come from. */
#include "check.h"

#include <pthread.h>

/* --- in a worker --- */

static stk_status send_i64(stk_sink *sink, int64_t n)
{
    stk_reply_i64(stk_sink_item(sink), n);
    return stk_sink_send(sink);
}

static stk_status send_lease(const stk_call *call, stk_sink *sink, size_t len, int64_t i)
{
    stk_lease lease;
    const stk_status status = stk_call_lease(call, len, &lease);
    if (status) return status;
    fill(lease.data, len, i);
    stk_reply_lease(stk_sink_item(sink), lease, len);
    return stk_sink_send(sink);
}

#define GOOD(cond) (void)(line = line || (cond) ? line : __LINE__)

/* The number of the first line that is not as it should be; what is right are the items 1, 2, 3. */
static int64_t misuse(const stk_call *call, stk_reply *reply)
{
    int line = 0;
    stk_sink *sink = NULL, *same = NULL;
    stk_lease lease;
    stk_flow flow = {.struct_size = sizeof flow - 1};
    GOOD(stk_call_sink(call, &flow, &sink) == STK_INVALID);
    flow.struct_size = sizeof flow, flow.or_fail = 2;
    GOOD(stk_call_sink(call, &flow, &sink) == STK_INVALID);
    flow.or_fail = 1, flow.reserved = 1;
    GOOD(stk_call_sink(call, &flow, &sink) == STK_INVALID && sink == NULL);
    GOOD(stk_call_sink(call, NULL, NULL) == STK_INVALID && stk_call_sink(NULL, NULL, &sink) == STK_INVALID);
    GOOD(stk_sink_send(NULL) == STK_INVALID && stk_sink_item(NULL) == NULL);
    GOOD(stk_call_sink(call, NULL, &sink) == STK_OK && stk_call_sink(call, NULL, &same) == STK_OK && sink == same);
    same = NULL;
    GOOD(stk_call_sink(call, &flow, &same) == STK_OK && sink == same); /* what is wrong there is not looked at */
    stk_reply *item = stk_sink_item(sink);
    GOOD(send_i64(sink, 1) == STK_OK && item == stk_sink_item(sink));
    GOOD(stk_reply_i64(item, 7) == STK_OK && stk_reply_i64(item, 8) == STK_INVALID); /* an item is one value */
    GOOD(stk_sink_send(sink) == STK_INVALID);
    GOOD(send_i64(sink, 2) == STK_OK); /* what was refused is gone */
    stk_reply_begin_list(item);
    GOOD(stk_sink_send(sink) == STK_INVALID);
    stk_reply_str(item, (stk_str){"\xff", 1});
    GOOD(stk_sink_send(sink) == STK_INVALID);
    GOOD(stk_reply_fail(item, STK_STR("A"), STK_STR("b")) == STK_APP && stk_sink_send(sink) == STK_INVALID);
    GOOD(stk_call_lease(call, 10, &lease) == STK_OK && stk_reply_lease(item, lease, 11) == STK_INVALID);
    GOOD(stk_sink_send(sink) == STK_INVALID && stk_reply_lease(item, lease, 10) == STK_OK);
    GOOD(stk_lease_release(lease) == STK_STALE_LEASE && stk_reply_i64(item, 1) == STK_INVALID); /* given away, and the value */
    GOOD(stk_sink_send(sink) == STK_INVALID);
    GOOD(stk_reply_lease(item, lease, 10) == STK_STALE_LEASE && stk_sink_send(sink) == STK_INVALID);
    GOOD(send_i64(sink, 3) == STK_OK);
    (void)reply;
    return line;
}

static void answered(uintptr_t user, stk_deferred *deferred)
{
    (void)user;
    stk_deferred_answer(deferred, STK_OK);
}

static stk_status app(uintptr_t user, const stk_call *call, stk_reply *reply)
{
    int64_t n = 0, m = 0;
    stk_sink *sink;
    stk_status status = STK_OK;
    (void)user;
    if (called(call, "none")) return STK_OK;
    if (stk_call_i64(call, 0, &n)) return STK_BAD_REQUEST;
    if (called(call, "i64")) return stk_reply_i64(reply, n);
    if (called(call, "pid")) return stk_reply_i64(reply, getpid());
    if (called(call, "fail")) return stk_reply_fail(reply, STK_STR("OutOfCoal"), STK_STR("nothing left"));
    if (called(call, "overruns")) { /* as many as there is room for */
        const stk_flow flow = {.struct_size = sizeof flow, .items = (uint64_t)n, .or_fail = 1};
        if ((status = stk_call_sink(call, &flow, &sink))) return status;
        for (int64_t i = 0; !status; i++) status = send_i64(sink, i);
        return status;
    }
    if (called(call, "misuse")) return stk_reply_i64(reply, misuse(call, reply));
    if ((status = stk_call_sink(call, NULL, &sink))) return status;
    stk_reply *item = stk_sink_item(sink);
    if (called(call, "count") || called(call, "breaks") || called(call, "dies") || called(call, "unsent")) {
        for (int64_t i = 0; i < n; i++)
            if ((status = send_i64(sink, i))) return status;
        if (called(call, "breaks")) return stk_reply_fail(reply, STK_STR("Leak"), STK_STR("the boiler is dry"));
        if (called(call, "dies")) abort();
        if (called(call, "unsent")) stk_reply_i64(item, 1);
        return STK_OK;
    }
    if (called(call, "mixed")) { /* each kind of value, and a value behind them */
        stk_reply_none(item), stk_sink_send(sink);
        stk_sink_send(sink); /* nothing put in is none */
        stk_reply_bool(item, true), stk_sink_send(sink);
        stk_reply_f64(item, 0.5), stk_sink_send(sink);
        stk_reply_str(item, STK_STR("coal")), stk_sink_send(sink);
        stk_reply_begin_dict(item), stk_reply_key(item, STK_STR("k")), stk_reply_begin_list(item);
        stk_reply_i64(item, n), stk_reply_end(item), stk_reply_end(item), stk_sink_send(sink);
        return stk_reply_str(reply, STK_STR("all"));
    }
    if (called(call, "lent") || called(call, "copied")) { /* items of this length, then how many they were */
        if (stk_call_i64(call, 1, &m)) return STK_BAD_REQUEST;
        void *buffer = malloc((size_t)m + 1);
        for (int64_t i = 0; i < n && !status; i++) {
            if (called(call, "lent")) status = send_lease(call, sink, (size_t)m, i);
            else fill(buffer, (size_t)m, i), stk_reply_bytes(item, buffer, (size_t)m), status = stk_sink_send(sink);
        }
        free(buffer);
        return status ? status : stk_reply_i64(reply, n);
    }
    if (called(call, "lent_end")) { /* a value in a lease, behind one item */
        stk_lease lease;
        if ((status = send_i64(sink, 1)) || (status = stk_call_lease(call, (size_t)n, &lease))) return status;
        fill(lease.data, (size_t)n, 5);
        return stk_reply_lease(reply, lease, (size_t)n);
    }
    if (called(call, "slow")) { /* one each so many milliseconds */
        if (stk_call_i64(call, 1, &m)) return STK_BAD_REQUEST;
        for (int64_t i = 0; i < n && !status; i++) sleep_ms(m), status = send_i64(sink, i);
        return status;
    }
    if (called(call, "endless")) {
        for (int64_t i = 0; !status; i++) status = send_i64(sink, i);
        return status;
    }
    if (called(call, "waits")) { /* one item, and then nothing until nobody wants more */
        status = send_i64(sink, n);
        while (!stk_call_is_cancelled(call)) sleep_ms(1);
        return status;
    }
    if (called(call, "defers")) return send_i64(sink, n), stk_call_defer(call, reply, 0, answered);
    if (called(call, "defers_an_item")) return stk_call_defer(call, item, 0, answered), stk_sink_send(sink);
    return stk_call_no_action(call);
}

/* --- in the host --- */

static stk_stream *open_with(host h, const char *action, int64_t n, int64_t m, stk_options options)
{
    stk_stream *stream = NULL;
    stk_error *e = NULL;
    stk_args *args = stk_args_new(h.client);
    stk_args_push_i64(args, n), stk_args_push_i64(args, m);
    options.struct_size = sizeof options;
    WORKS(stk_stream_open(h.client, STK_STR("t"), S(action), args, &options, &stream, &e));
    return stream;
}

static stk_stream *begin(host h, const char *action, int64_t n, int64_t m) { return open_with(h, action, n, m, (stk_options){0}); }

/* Numbers from 0 until `ended`, whose error, if any, is handed on; how many. */
static int64_t count(stk_stream *stream, stk_status ended, stk_error **e)
{
    stk_result *item;
    stk_status status;
    int64_t n = 0;
    while (!(status = stk_stream_next(stream, STK_FOREVER, &item, e))) CHECK(number(item) == n), n++;
    IS(ended, status);
    IS(STK_END, stk_stream_next(stream, STK_FOREVER, &item, NULL)); /* whatever it was */
    return n;
}

/* Whether what the app returned, once the end was seen, is nothing. */
static bool is_empty(stk_stream *stream)
{
    stk_value value;
    return stk_stream_value(stream, &value) == STK_OK && value.kind == STK_KIND_NONE;
}

/* An action that sends numbers, so many, and then fails with these words in its message. */
static void fails_behind(host h, const char *action, int64_t n, int64_t items, const char *part)
{
    stk_error *e = NULL;
    stk_stream *stream = begin(h, action, n, 0);
    CHECK(count(stream, STK_APP, &e) == items && strstr(stk_error_message(e), part));
    stk_error_free(e);
    stk_stream_free(stream);
}

/* Every place among the client's 64 is free, and the worker is the one that it was. */
static void nothing_is_left(host h, int64_t pid)
{
    stk_stream *all[64];
    CHECK(ask(h.client, "pid", 0) == pid);
    for (int i = 0; i < 64; i++) all[i] = begin(h, "i64", i, 0);
    for (int i = 0; i < 64; i++) CHECK(next_number(all[i]) == i), stk_stream_free(all[i]);
}

static void numbers_in_order(void)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    const int64_t pid = ask(h.client, "pid", 0);
    const int64_t lengths[] = {0, 1, 10, 1000, under("valgrind") ? 5000 : 100000};
    for (size_t i = 0; i < COUNT(lengths); i++) {
        stk_stream *stream = begin(h, "count", lengths[i], 0);
        CHECK(count(stream, STK_END, &e) == lengths[i] && e == NULL);
        CHECK(is_empty(stream));
        WORKS(stk_stream_wait(stream, 0, &e)); /* it has ended */
        stk_stream_free(stream);
    }
    nothing_is_left(h, pid);
    host_down(h);
}

static void every_kind_of_value(void)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    stk_result *item[6];
    stk_value value, inner;
    stk_iter iter;
    stk_str text;
    bool b = false;
    double f = 0;
    int64_t n = 0;
    stk_stream *stream = begin(h, "mixed", 9, 0);
    for (int i = 0; i < 6; i++) WORKS(stk_stream_next(stream, STK_FOREVER, &item[i], &e));
    IS(STK_PENDING, stk_stream_value(stream, &value)); /* whatever may be there: the end was not seen */
    IS(STK_END, stk_stream_next(stream, STK_FOREVER, &item[0], &e));
    CHECK(e == NULL);
    for (int i = 0; i < 2; i++) CHECK(stk_result_value(item[i], &value) == STK_OK && value.kind == STK_KIND_NONE);
    CHECK(stk_result_bool(item[2], &b) == STK_OK && b);
    CHECK(stk_result_f64(item[3], &f) == STK_OK && f == 0.5);
    CHECK(stk_result_str(item[4], &text) == STK_OK && stk_str_eq(text, STK_STR("coal")));
    CHECK(stk_result_value(item[5], &value) == STK_OK && stk_value_get(&value, STK_STR("k"), &inner) == STK_OK);
    CHECK(stk_value_iter(&inner, &iter) == STK_OK && stk_iter_next(&iter, NULL, &value) == STK_OK);
    CHECK(stk_value_i64(&value, &n) == STK_OK && n == 9 && stk_result_worker(item[5]) == 1);
    CHECK(stk_stream_value(stream, &value) == STK_OK && stk_value_str(&value, &text) == STK_OK);
    CHECK(stk_str_eq(text, STK_STR("all")));
    for (int i = 0; i < 6; i++) stk_result_free(item[i]);
    stk_stream_free(stream);
    host_down(h);
}

static void bytes_of_any_size(void)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    stk_result *item;
    stk_bytes bytes;
    stk_value value;
    const int64_t pid = ask(h.client, "pid", 0);
    const int64_t lengths[] = {0, 1, 430, 431, 450, 5000, 65536, 3000000};
    for (size_t k = 0; k < 2 * COUNT(lengths); k++) {
        const int64_t len = lengths[k / 2], items = len > 1000000 ? 5 : under("valgrind") ? 20 : 200;
        stk_stream *stream = begin(h, k % 2 ? "lent" : "copied", items, len);
        for (int64_t i = 0; i < items; i++) {
            WORKS(stk_stream_next(stream, STK_FOREVER, &item, &e));
            CHECK(stk_result_bytes(item, &bytes) == STK_OK && is_filled(bytes, (size_t)len, i));
            stk_result_free(item);
        }
        CHECK(end_of(stream) == items);
        stk_stream_free(stream);
    }
    stk_stream *stream = begin(h, "lent_end", 1000000, 0);
    WORKS(stk_stream_wait(stream, STK_FOREVER, &e));
    CHECK(stk_stream_value(stream, &value) == STK_OK && stk_value_bytes(&value, &bytes) == STK_OK);
    CHECK(is_filled(bytes, 1000000, 5)); /* read where it lies, while the stream is not freed */
    for (int i = 0; i < 3; i++) WORKS(stk_stream_next(stream, STK_FOREVER, NULL, NULL) == STK_END ? STK_OK : STK_APP);
    stk_stream_free(stream);
    nothing_is_left(h, pid);
    host_down(h);
}

static void held_items_are_not_written_over(void)
{
    enum { LENGTH = 10000, HELD = 20 };
    host h = host_up(NULL);
    stk_error *e = NULL;
    stk_result *held[HELD];
    stk_bytes bytes;
    const int64_t pid = ask(h.client, "pid", 0);
    stk_stream *stream = begin(h, "lent", 1000000, LENGTH);
    for (int i = 0; i < HELD; i++) WORKS(stk_stream_next(stream, STK_FOREVER, &held[i], &e));
    stk_stream_free(stream); /* the worker is free of it, its memory is not */
    for (int i = 0; i < 3; i++) {
        stream = begin(h, "lent", 100, LENGTH);
        WORKS(stk_stream_wait(stream, STK_FOREVER, &e));
        stk_stream_free(stream);
    }
    for (int i = 0; i < HELD; i++) {
        CHECK(stk_result_bytes(held[i], &bytes) == STK_OK && is_filled(bytes, LENGTH, i));
        if (i % 3 == 0) stk_result_free(held[i]);
    }
    for (int i = 0; i < HELD; i++)
        if (i % 3 != 0) stk_result_free(held[i]);
    nothing_is_left(h, pid);
    host_down(h);
}

static void an_error_comes_after_the_items_before_it(void)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    uint32_t from = 0;
    const int64_t pid = ask(h.client, "pid", 0);
    for (int64_t n = 0; n < 3000; n = n * 10 + 3) {
        stk_stream *stream = begin(h, "breaks", n, 0);
        CHECK(count(stream, STK_APP, &e) == n);
        CHECK(strcmp(stk_error_class(e), "Leak") == 0 && strstr(stk_error_message(e), "the boiler is dry"));
        CHECK(strcmp(stk_error_source(e, &from, NULL), "t") == 0 && from == pid);
        stk_error_free(e), e = NULL;
        CHECK(is_empty(stream));
        WORKS(stk_stream_wait(stream, 0, &e)); /* it was given */
        stk_stream_free(stream);
        stream = begin(h, "breaks", n, 0);
        FAILS(STK_APP, "the boiler is dry", stk_stream_wait(stream, STK_FOREVER, &e));
        stk_stream_free(stream);
    }
    fails_behind(h, "unsent", 2, 2, "not sent");
    fails_behind(h, "defers", 0, 1, "cannot be deferred");
    fails_behind(h, "defers_an_item", 0, 0, "fail or be deferred");
    nothing_is_left(h, pid);
    host_down(h);
}

static void a_worker_that_dies_leaves_a_prefix(void)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    int32_t detail = 0;
    for (int64_t n = 0; n < 3000; n = n * 10 + 3) {
        stk_stream *stream = begin(h, "dies", n, 0);
        CHECK(count(stream, STK_WORKER_DIED, &e) <= n);
        CHECK(stk_error_cause(e, &detail) == STK_CAUSE_SIGNAL && detail == SIGABRT && stk_error_started(e) == 1);
        stk_error_free(e), e = NULL;
        stk_stream_free(stream);
    }
    nothing_is_left(h, ask(h.client, "pid", 0));
    host_down(h);
}

/* One worker: the next call shows that it was let go of, its pid that it was not replaced. */
static void one_that_is_given_up_frees_the_worker(void)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    stk_value value;
    const int64_t pid = ask(h.client, "pid", 0);
    for (int round = 0; round < 6; round++) {
        stk_stream *stream = begin(h, round % 2 ? "endless" : "waits", 0, 0);
        if (round > 1) CHECK(next_number(stream) == 0);
        if (round > 3) sleep_ms(50); /* asleep for want of room, or about to be */
        if (round % 3 == 0) {
            IS(STK_OK, stk_stream_cancel(stream));
            IS(STK_INVALID, stk_stream_cancel(stream)), IS(STK_INVALID, stk_stream_value(stream, &value));
            FAILS(STK_INVALID, "was cancelled", stk_stream_next(stream, 0, NULL, &e));
            FAILS(STK_INVALID, "was cancelled", stk_stream_wait(stream, 0, &e));
        }
        stk_stream_free(stream);
        CHECK(ask(h.client, "pid", 0) == pid);
    }
    nothing_is_left(h, pid);
    host_down(h);
}

/* What the app returned lasts as long as the stream: there is nothing left to cancel. */
static void one_that_has_ended_keeps_its_value(void)
{
    enum { LENGTH = 10000 };
    host h = host_up(NULL);
    stk_error *e = NULL;
    stk_bytes bytes;
    stk_value value;
    stk_str text;
    stk_stream *small = begin(h, "mixed", 0, 0), *lent = begin(h, "lent_end", LENGTH, 0);
    WORKS(stk_stream_wait(small, STK_FOREVER, &e)), WORKS(stk_stream_wait(lent, STK_FOREVER, &e));
    CHECK(stk_stream_value(small, &value) == STK_OK && stk_value_str(&value, &text) == STK_OK);
    CHECK(stk_stream_value(lent, &value) == STK_OK && stk_value_bytes(&value, &bytes) == STK_OK);
    for (int twice = 0; twice < 2; twice++) IS(STK_OK, stk_stream_cancel(small)), IS(STK_OK, stk_stream_cancel(lent));
    for (int i = 0; i < 3; i++) { /* which would be put where the value lies */
        stk_stream *other = begin(h, "lent", 100, LENGTH);
        WORKS(stk_stream_wait(other, STK_FOREVER, &e));
        stk_stream_free(other);
    }
    CHECK(stk_str_eq(text, STK_STR("all")) && is_filled(bytes, LENGTH, 5));
    CHECK(stk_stream_value(lent, &value) == STK_OK && stk_value_bytes(&value, &bytes) == STK_OK && is_filled(bytes, LENGTH, 5));
    IS(STK_END, stk_stream_next(lent, STK_FOREVER, NULL, &e));
    stk_stream_free(small), stk_stream_free(lent);
    host_down(h);
}

static void cancelled_from_another_thread(void)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    stk_canceller *canceller = NULL;
    pthread_t thread;
    const int64_t pid = ask(h.client, "pid", 0);
    stk_stream *stream = begin(h, "waits", 0, 0);
    IS(STK_OK, stk_stream_canceller(stream, &canceller, NULL));
    IS(STK_PENDING, stk_canceller_wait(canceller, 1, NULL));
    CHECK(next_number(stream) == 0);
    NEED(pthread_create(&thread, NULL, cancel_soon, canceller) == 0);
    IS(STK_CANCELLED, stk_stream_next(stream, STK_FOREVER, NULL, &e));
    CHECK(stk_error_cancelled_by(e) == STK_BY_HANDLE);
    stk_error_free(e), e = NULL;
    NEED(pthread_join(thread, NULL) == 0);
    IS(STK_OK, stk_canceller_wait(canceller, STK_FOREVER, NULL));
    stk_stream_free(stream);
    IS(STK_OK, stk_canceller_cancel(canceller, NULL)); /* late, and no other call's */
    nothing_is_left(h, pid);
    IS(STK_OK, stk_canceller_wait(canceller, 0, NULL));
    stk_canceller_free(canceller), stk_canceller_free(NULL);
    nothing_is_left(h, pid);
    host_down(h);
}

static void a_consumer_that_takes_nothing_is_cut_off(void)
{
    stk_config *config = workers(1);
    IS(STK_OK, stk_config_set_stall_ms(config, 200));
    host h = host_up(config);
    stk_error *e = NULL;
    const int64_t pid = ask(h.client, "pid", 0);
    stk_stream *stream = begin(h, "endless", 0, 0);
    CHECK(ask(h.client, "pid", 0) == pid); /* the worker is free when it was cut off */
    CHECK(count(stream, STK_STALLED, &e) > 100); /* what was sent arrives */
    CHECK(stk_error_stalled_ms(e) >= 200);
    stk_error_free(e);
    stk_stream_free(stream);
    nothing_is_left(h, pid);
    host_down(h);
}

static void one_that_does_not_wait_overruns(void)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    uint64_t limit = 0;
    const int64_t pid = ask(h.client, "pid", 0);
    stk_stream *stream = begin(h, "overruns", 10, 0);
    CHECK(ask(h.client, "pid", 0) == pid); /* it is through */
    CHECK(count(stream, STK_OVERRUN, &e) == 10);
    CHECK(stk_error_bound(e, &limit) == STK_BOUND_STREAM && limit == 10);
    stk_error_free(e);
    stk_stream_free(stream);
    nothing_is_left(h, pid);
    host_down(h);
}

static void deadlines(void)
{
    stk_config *config = workers(1);
    stk_config_set_timeout_ms(config, 1000); /* of calls, not of streams */
    host h = host_up(config);
    stk_error *e = NULL;
    stk_result *item = NULL;
    stk_value value;
    stk_stream *stream = begin(h, "slow", 20, 60);
    CHECK(count(stream, STK_END, &e) == 20);
    stk_stream_free(stream);

    stream = open_with(h, "slow", 1, 600000, (stk_options){.item_ms = 1000});
    IS(STK_PENDING, stk_stream_next(stream, 0, &item, &e));
    IS(STK_DEADLINE, stk_stream_next(stream, 60000, &item, &e)); /* whoever waits longer finds the call's own limit */
    CHECK(stk_error_limit(e) == STK_LIMIT_ITEM && item == NULL);
    stk_error_free(e), e = NULL;
    IS(STK_END, stk_stream_next(stream, 0, &item, &e));
    stk_stream_free(stream);

    stream = open_with(h, "slow", 1000000, 1, (stk_options){.deadline_ms = 200});
    CHECK(count(stream, STK_DEADLINE, &e) < 1000);
    CHECK(stk_error_limit(e) == STK_LIMIT_CALL);
    stk_error_free(e), e = NULL;
    stk_stream_free(stream);

    /* One's own patience ends nothing. */
    stream = begin(h, "waits", 7, 0);
    UNTIL(stk_stream_next(stream, 0, &item, &e) == STK_OK);
    CHECK(number(item) == 7);
    item = NULL;
    IS(STK_PENDING, stk_stream_next(stream, 20, &item, &e));
    IS(STK_PENDING, stk_stream_wait(stream, 20, &e)), IS(STK_PENDING, stk_stream_wait(stream, 0, &e));
    IS(STK_PENDING, stk_stream_value(stream, &value));
    CHECK(e == NULL && item == NULL);
    stk_stream_free(stream);
    stream = begin(h, "endless", 0, 0);
    IS(STK_PENDING, stk_stream_wait(stream, 50, &e)); /* nor does it last as long as there are items */
    IS(STK_PENDING, stk_stream_wait(stream, 0, &e));
    stk_stream_free(stream);
    CHECK(ask(h.client, "i64", 3) == 3);
    host_down(h);
}

static void to_execute_one_gives_a_list(void)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    stk_result *result = NULL;
    stk_value list, value;
    stk_iter iter;
    stk_str text;
    size_t len = 0;
    int64_t n = 0;
    for (int64_t length = 0; length < 3000; length = length * 10 + 3) {
        WORKS(run_i64(h.client, "count", length, &result, &e));
        CHECK(stk_result_value(result, &list) == STK_OK && stk_value_len(&list, &len) == STK_OK && len == (size_t)length);
        IS(STK_OK, stk_value_iter(&list, &iter));
        for (int64_t i = 0; i < length; i++)
            CHECK(stk_iter_next(&iter, NULL, &value) == STK_OK && stk_value_i64(&value, &n) == STK_OK && n == i);
        IS(STK_END, stk_iter_next(&iter, NULL, &value));
        stk_result_free(result);
    }
    WORKS(run_i64(h.client, "mixed", 9, &result, &e)); /* what the app returned comes last */
    CHECK(stk_result_value(result, &list) == STK_OK && stk_value_len(&list, &len) == STK_OK && len == 7);
    IS(STK_OK, stk_value_iter(&list, &iter));
    while (stk_iter_next(&iter, NULL, &value) == STK_OK) continue;
    CHECK(stk_value_str(&value, &text) == STK_OK && stk_str_eq(text, STK_STR("all")));
    stk_result_free(result);
    FAILS(STK_APP, "the boiler is dry", run_i64(h.client, "breaks", 100, NULL, &e));
    host_down(h);
}

static void a_plain_action_is_one_item(void)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    stk_result *item = NULL;
    stk_value value;
    stk_stream *stream = begin(h, "i64", 5, 0);
    CHECK(next_number(stream) == 5 && next_number(stream) == -1 && next_number(stream) == -1);
    CHECK(is_empty(stream));
    stk_stream_free(stream);
    stream = begin(h, "i64", 5, 0);
    CHECK(end_of(stream) == 5);
    CHECK(next_number(stream) == -1);
    stk_stream_free(stream);
    stream = begin(h, "none", 0, 0);
    WORKS(stk_stream_next(stream, 60000, &item, &e));
    CHECK(stk_result_value(item, &value) == STK_OK && value.kind == STK_KIND_NONE);
    stk_result_free(item);
    stk_stream_free(stream);
    stream = begin(h, "fail", 0, 0);
    FAILS(STK_APP, "nothing left", stk_stream_next(stream, 60000, &item, &e));
    CHECK(next_number(stream) == -1);
    stk_stream_free(stream);
    stream = begin(h, "no_such", 0, 0);
    FAILS(STK_BAD_REQUEST, "no_such", stk_stream_next(stream, 60000, &item, &e));
    stk_stream_free(stream);
    host_down(h);
}

static void a_sink_that_is_misused(void)
{
    host h = host_up(NULL);
    stk_stream *stream = begin(h, "misuse", 0, 0);
    CHECK(next_number(stream) == 1 && next_number(stream) == 2 && next_number(stream) == 3);
    const int64_t line = end_of(stream);
    if (line) CHECK(!"what was wrong is in:"), fprintf(stderr, "%s:%d\n", __FILE__, (int)line);
    stk_stream_free(stream);
    host_down(h);
}

static void sixty_four_at_a_time(void)
{
    host h = host_up(workers(2));
    stk_error *e = NULL;
    stk_stream *all[64], *more = NULL;
    stk_args *args;
    for (int64_t i = 0; i < 64; i++) all[i] = begin(h, "count", i, 0);
    args = stk_args_new(h.client), stk_args_push_i64(args, 1);
    FAILS(STK_OVERLOADED, "64", stk_stream_open(h.client, STK_STR("t"), STK_STR("count"), args, NULL, &more, &e));
    CHECK(more == NULL);
    for (int64_t i = 0; i < 64; i++) CHECK(count(all[i], STK_END, &e) == i), stk_stream_free(all[i]);
    host_down(h);
}

int main(int argc, char **argv)
{
    static const stk_app apps[] = {{.struct_size = sizeof(stk_app), .name = "t", .call = app}};
    static const test tests[] = {
        TEST(numbers_in_order),
        TEST(every_kind_of_value),
        TEST(bytes_of_any_size),
        TEST(held_items_are_not_written_over),
        TEST(an_error_comes_after_the_items_before_it),
        TEST(a_worker_that_dies_leaves_a_prefix),
        TEST(one_that_is_given_up_frees_the_worker),
        TEST(one_that_has_ended_keeps_its_value),
        TEST(cancelled_from_another_thread),
        TEST(a_consumer_that_takes_nothing_is_cut_off),
        TEST(one_that_does_not_wait_overruns),
        TEST(deadlines),
        TEST(to_execute_one_gives_a_list),
        TEST(a_plain_action_is_one_item),
        TEST(a_sink_that_is_misused),
        TEST(sixty_four_at_a_time),
    };
    stk_error *e = NULL;
    if (stk_init(apps, 1, NULL, &e)) return stk_error_print(e);
    return run_tests(tests, COUNT(tests), argc, argv);
}
