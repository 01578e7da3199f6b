/* Items of streams out of completions, between the outcomes of calls: whole, in order, with one end, as an event loop comes by
 * them. */
#include "check.h"

#include <poll.h>
#include <sys/epoll.h>

static stk_status app(uintptr_t user, const stk_call *call, stk_reply *reply)
{
    int64_t n = 0;
    stk_sink *sink;
    stk_lease lease;
    stk_status status = STK_OK;
    (void)user;
    if (stk_call_i64(call, 0, &n)) return STK_BAD_REQUEST;
    if (called(call, "i64")) return stk_reply_i64(reply, n);
    if (called(call, "fail")) return stk_reply_fail(reply, STK_STR("OutOfCoal"), STK_STR("nothing left"));
    if ((status = stk_call_sink(call, NULL, &sink))) return status;
    for (int64_t i = 0; i < n && !status; i++) {
        if (called(call, "lent")) {
            if ((status = stk_call_lease(call, 10000, &lease))) return status;
            fill(lease.data, 10000, i);
            stk_reply_lease(stk_sink_item(sink), lease, 10000);
        } else stk_reply_i64(stk_sink_item(sink), i);
        status = stk_sink_send(sink);
    }
    if (called(call, "breaks")) return stk_reply_fail(reply, STK_STR("Leak"), STK_STR("the boiler is dry"));
    if (called(call, "dies")) abort();
    if (called(call, "waits")) stk_call_wait_cancelled(call, 600000);
    if (called(call, "valued")) return stk_reply_i64(reply, n);
    return status;
}

static void stream_to(host h, stk_completions *queue, const char *action, int64_t n, uint64_t token, uint64_t item_ms)
{
    const stk_options options = {.struct_size = sizeof options, .item_ms = item_ms};
    stk_error *e = NULL;
    stk_args *args = stk_args_new(h.client);
    stk_args_push_i64(args, n);
    WORKS(stk_stream_to(h.client, STK_STR("t"), S(action), args, &options, queue, token, &e));
}

static void call_to(host h, stk_completions *queue, int64_t n, uint64_t token)
{
    stk_error *e = NULL;
    stk_args *args = stk_args_new(h.client);
    stk_args_push_i64(args, n);
    WORKS(stk_submit_to(h.client, STK_STR("t"), STK_STR("i64"), args, NULL, queue, token, &e));
}

static bool readable(stk_completions *queue, int timeout_ms)
{
    struct pollfd fd = {.fd = stk_completions_fd(queue), .events = POLLIN};
    return poll(&fd, 1, timeout_ms) == 1;
}

/* The next item or outcome, as a loop comes by it. */
static stk_completion next(stk_completions *queue)
{
    stk_completion done;
    memset(&done, 0xee, sizeof done);
    while (stk_completions_next(queue, &done) == STK_PENDING) NEED(readable(queue, 30000));
    CHECK(done.more <= 1 && (done.status == STK_OK) == (done.result != NULL) && (!done.more || done.status == STK_OK));
    CHECK((done.status == STK_OK) == (done.error == NULL) && stk_error_status(done.error) == done.status);
    return done;
}

/* Numbers from 0 with this token, until the end, which is handed on; how many. */
static int64_t count(stk_completions *queue, uint64_t token, stk_completion *end)
{
    for (int64_t n = 0;; n++) {
        *end = next(queue);
        CHECK(end->token == token);
        if (!end->more) return n;
        CHECK(number(end->result) == n);
    }
}

static bool is_nothing(stk_result *result)
{
    stk_value value;
    const bool nothing = stk_result_value(result, &value) == STK_OK && value.kind == STK_KIND_NONE;
    stk_result_free(result);
    return nothing;
}

static void items_and_an_end(void)
{
    host h = host_up(NULL);
    stk_completions *queue = queue_of(h);
    stk_completion end;
    const int64_t lengths[] = {0, 1, 10, 1000, under("valgrind") ? 2000 : 20000};
    for (size_t i = 0; i < COUNT(lengths); i++) {
        stream_to(h, queue, "plain", lengths[i], i, 0);
        CHECK(stk_completions_in_flight(queue) == 1);
        CHECK(count(queue, i, &end) == lengths[i] && is_nothing(end.result));
        stream_to(h, queue, "valued", lengths[i], i, 0);
        CHECK(count(queue, i, &end) == lengths[i] && number(end.result) == lengths[i]);
        CHECK(stk_completions_in_flight(queue) == 0);
        IS(STK_PENDING, stk_completions_next(queue, &end));
    }
    stream_to(h, queue, "i64", 5, 7, 0); /* of one result there are no items */
    CHECK(count(queue, 7, &end) == 0 && number(end.result) == 5);
    stk_completions_free(queue);
    host_down(h);
}

static void failures_come_behind_the_items(void)
{
    host h = host_up(NULL);
    stk_completions *queue = queue_of(h);
    stk_completion end;
    for (int64_t n = 0; n < 3000; n = n * 10 + 3) {
        stream_to(h, queue, "breaks", n, 1, 0);
        CHECK(count(queue, 1, &end) == n && end.status == STK_APP && strcmp(stk_error_class(end.error), "Leak") == 0);
        stk_error_free(end.error);
        stream_to(h, queue, "dies", n, 2, 0);
        CHECK(count(queue, 2, &end) <= n && end.status == STK_WORKER_DIED);
        stk_error_free(end.error);
    }
    stream_to(h, queue, "fail", 0, 3, 0);
    CHECK(count(queue, 3, &end) == 0 && end.status == STK_APP);
    stk_error_free(end.error);
    stream_to(h, queue, "waits", 2, 4, 1000);
    CHECK(count(queue, 4, &end) == 2 && end.status == STK_DEADLINE && stk_error_limit(end.error) == STK_LIMIT_ITEM);
    stk_error_free(end.error);
    CHECK(ask(h.client, "i64", 3) == 3);
    stk_completions_free(queue);
    host_down(h);
}

static void streams_and_calls_take_turns(void)
{
    enum { STREAMS = 8, LENGTH = 200, CALLS = 400 };
    host h = host_up(workers(2));
    stk_completions *queue = queue_of(h);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    int64_t seen[STREAMS] = {0}, calls = 0, sent = 0, ended = 0;
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    NEED(epoll_ctl(epoll, EPOLL_CTL_ADD, stk_completions_fd(queue), &event) == 0);
    for (uint64_t i = 0; i < STREAMS; i++) stream_to(h, queue, "valued", LENGTH, i, 0);
    while (ended < STREAMS || calls < CALLS) {
        stk_completion done;
        while (sent < CALLS && sent - calls < 20) call_to(h, queue, sent, 1000 + (uint64_t)sent), sent++;
        while (stk_completions_next(queue, &done) == STK_PENDING) NEED(epoll_wait(epoll, &event, 1, 30000) == 1);
        IS(STK_OK, done.status);
        if (done.token >= 1000) {
            CHECK(!done.more && number(done.result) == (int64_t)done.token - 1000), calls++;
            continue;
        }
        NEED(done.token < STREAMS);
        if (done.more) CHECK(number(done.result) == seen[done.token]), seen[done.token]++;
        else CHECK(number(done.result) == LENGTH && seen[done.token] == LENGTH), ended++;
    }
    CHECK(stk_completions_in_flight(queue) == 0);
    close(epoll);
    stk_completions_free(queue);
    host_down(h);
}

static void held_items_outlast_the_queue(void)
{
    enum { HELD = 20 };
    host h = host_up(NULL);
    stk_completions *queue = queue_of(h);
    stk_result *held[HELD];
    stk_bytes bytes;
    stream_to(h, queue, "lent", 1000000, 1, 0);
    for (int i = 0; i < HELD; i++) held[i] = next(queue).result;
    stk_completions_free(queue); /* cancels it: the worker is free */
    CHECK(ask(h.client, "i64", 3) == 3);
    host_down(h);
    for (int i = 0; i < HELD; i++) {
        CHECK(stk_result_bytes(held[i], &bytes) == STK_OK && is_filled(bytes, 10000, i));
        stk_result_free(held[i]);
    }
}

static void cancelled_by_token(void)
{
    host h = host_up(workers(2));
    stk_completions *queue = queue_of(h);
    stk_client *another = NULL;
    stk_error *e = NULL;
    stk_completion done;
    stream_to(h, queue, "waits", 3, 1, 0);
    stream_to(h, queue, "plain", 1000000, 2, 0);
    for (int items = 0; items < 50;) { /* of each, whoever is first */
        done = next(queue);
        CHECK(done.more == 1);
        items += done.token == 2;
        stk_result_free(done.result);
    }
    IS(STK_OK, stk_completions_cancel(queue, 3));
    IS(STK_OK, stk_completions_cancel(queue, 2)), IS(STK_OK, stk_completions_cancel(queue, 1));
    CHECK(stk_completions_in_flight(queue) == 2);
    for (int i = 0; i < 2; i++) {
        done = next(queue);
        CHECK(done.more == 0 && done.status == STK_CANCELLED && stk_error_cancelled_by(done.error) == STK_BY_CALLER);
        stk_error_free(done.error);
    }
    IS(STK_PENDING, stk_completions_next(queue, &done));
    for (int64_t i = 0; i < 4; i++) CHECK(ask(h.client, "i64", i) == i);

    WORKS(stk_client_new(h.pool, &another, &e));
    FAILS(STK_BAD_REQUEST, "another client's",
          stk_stream_to(another, STK_STR("t"), STK_STR("plain"), NULL, NULL, queue, 1, &e));
    FAILS(STK_INVALID, "`completions`", stk_stream_to(h.client, STK_STR("t"), STK_STR("plain"), NULL, NULL, NULL, 1, &e));
    FAILS(STK_INVALID, "`client`", stk_stream_to(NULL, STK_STR("t"), STK_STR("plain"), NULL, NULL, queue, 1, &e));
    FAILS(STK_INVALID, "`app`", stk_stream_to(h.client, (stk_str){NULL, 1}, STK_STR("plain"), NULL, NULL, queue, 1, &e));
    FAILS(STK_BAD_REQUEST, "no app", stk_stream_to(h.client, STK_STR("x"), STK_STR("plain"), NULL, NULL, queue, 1, &e));
    CHECK(stk_completions_in_flight(queue) == 0);
    stk_client_free(another), stk_completions_free(queue);
    host_down(h);
}

int main(int argc, char **argv)
{
    static const stk_app apps[] = {{.struct_size = sizeof(stk_app), .name = "t", .call = app}};
    static const test tests[] = {
        TEST(items_and_an_end),
        TEST(failures_come_behind_the_items),
        TEST(streams_and_calls_take_turns),
        TEST(held_items_outlast_the_queue),
        TEST(cancelled_by_token),
    };
    stk_error *e = NULL;
    if (stk_init(apps, 1, NULL, &e)) return stk_error_print(e);
    return run_tests(tests, COUNT(tests), argc, argv);
}
