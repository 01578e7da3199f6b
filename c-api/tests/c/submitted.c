/* Calls that are sent and not waited for: handles, and completions behind a descriptor. Whatever ends a call, its outcome
 * is there once. */
#include "check.h"

#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>

static stk_status app(uintptr_t user, const stk_call *call, stk_reply *reply)
{
    int64_t n = 0;
    (void)user;
    if (stk_call_i64(call, 0, &n)) return STK_BAD_REQUEST;
    if (called(call, "i64")) return stk_reply_i64(reply, n);
    if (called(call, "sleep")) return sleep_ms(n), stk_reply_i64(reply, n);
    if (called(call, "fail")) return stk_reply_fail(reply, STK_STR("OutOfCoal"), STK_STR("nothing left"));
    if (called(call, "abort")) abort();
    return stk_call_no_action(call);
}

static stk_args *one(host h, int64_t n)
{
    stk_args *args = stk_args_new(h.client);
    stk_args_push_i64(args, n);
    return args;
}

static stk_pending *submit(host h, const char *action, int64_t n, uint64_t deadline_ms)
{
    const stk_options options = {.struct_size = sizeof options, .deadline_ms = deadline_ms};
    stk_pending *pending = NULL;
    stk_error *e = NULL;
    WORKS(stk_submit(h.client, STK_STR("t"), S(action), one(h, n), &options, &pending, &e));
    return pending;
}

static host patient(size_t n)
{
    stk_config *config = workers(n);
    stk_config_set_kill_grace_ms(config, 600000);
    return host_up(config);
}

static void a_wait_with_a_limit(void)
{
    host h = host_up(workers(1));
    stk_error *e = NULL;
    stk_result *result = NULL;
    stk_pending *pending = submit(h, "sleep", 100, 0);
    IS(STK_PENDING, stk_pending_wait(pending, 0, &result, &e));
    IS(STK_PENDING, stk_pending_wait(pending, 10, &result, &e));
    CHECK(e == NULL && result == NULL);
    WORKS(stk_pending_wait(pending, STK_FOREVER, &result, &e));
    CHECK(number(result) == 100);
    FAILS(STK_INVALID, "given already", stk_pending_wait(pending, 0, &result, &e));
    FAILS(STK_INVALID, "given already", stk_pending_cancel(pending, &result, &e));
    stk_pending_free(pending);

    pending = submit(h, "i64", 7, 0);
    UNTIL(stk_pending_wait(pending, 0, NULL, &e) == STK_OK); /* and lets go of the result */
    stk_pending_free(pending);
    pending = submit(h, "fail", 0, 0);
    FAILS(STK_APP, "nothing left", stk_pending_wait(pending, 60000, &result, &e));
    stk_pending_free(pending);
    pending = submit(h, "abort", 0, 0);
    FAILS(STK_WORKER_DIED, "signal 6", stk_pending_wait(pending, STK_FOREVER, &result, &e));
    stk_pending_free(pending);
    CHECK(ask(h.client, "i64", 5) == 5);
    host_down(h);
}

static void a_deadline_of_one_that_is_only_looked_at(void)
{
    host h = patient(1);
    stk_error *e = NULL;
    stk_pending *running = submit(h, "sleep", 1500, 500), *queued = submit(h, "i64", 1, 20);
    stk_status status;
    UNTIL((status = stk_pending_wait(queued, 0, NULL, &e)) != STK_PENDING);
    IS(STK_DEADLINE, status);
    CHECK(stk_error_started(e) == 0);
    stk_error_free(e), e = NULL;
    UNTIL((status = stk_pending_wait(running, 0, NULL, &e)) != STK_PENDING);
    IS(STK_DEADLINE, status);
    stk_error_free(e);
    stk_pending_free(running), stk_pending_free(queued);
    host_down(h);
}

static void cancelled_and_dropped(void)
{
    host h = patient(1);
    stk_error *e = NULL;
    stk_pending *running = submit(h, "sleep", 1000, 0);
    stk_pending *queued = submit(h, "abort", 0, 0), *dropped = submit(h, "abort", 0, 0);
    IS(STK_CANCELLED, stk_pending_cancel(queued, NULL, &e));
    CHECK(stk_error_started(e) == 0 && stk_error_status(e) == STK_CANCELLED);
    CHECK(stk_error_cancelled_by(e) == STK_BY_CALLER && stk_error_limit(e) == STK_LIMIT_UNKNOWN);
    stk_error_free(e), e = NULL;
    stk_pending_free(dropped); /* neither was ever run: the worker lives */
    WORKS(stk_pending_wait(running, STK_FOREVER, NULL, &e));
    CHECK(ask(h.client, "i64", 5) == 5);
    stk_pending_free(running), stk_pending_free(queued), stk_pending_free(NULL);

    stk_pending *left = submit(h, "sleep", 50, 0); /* everything else first */
    host_down(h);
    stk_status status = stk_pending_wait(left, STK_FOREVER, NULL, &e);
    CHECK(status == STK_OK || status == STK_WORKER_DIED || status == STK_ARBITER_DIED || status == STK_SHUTTING_DOWN);
    stk_error_free(e);
    stk_pending_free(left);
}

static void sixty_four_in_flight(void)
{
    host h = host_up(workers(2));
    stk_error *e = NULL;
    stk_pending *all[64], *pending = NULL;
    for (int i = 0; i < 64; i++) all[i] = submit(h, "sleep", 1, 0);
    stk_status status = stk_submit(h.client, STK_STR("t"), STK_STR("i64"), one(h, 1), NULL, &pending, &e);
    if (status == STK_OK) stk_pending_free(pending); /* cannot be: results count until they are fetched */
    IS(STK_OVERLOADED, status);
    CHECK(stk_error_bound(e, NULL) == STK_BOUND_CALLS);
    stk_error_free(e), e = NULL;
    for (int i = 0; i < 64; i++) {
        WORKS(stk_pending_wait(all[i], STK_FOREVER, NULL, &e));
        stk_pending_free(all[i]);
    }
    host_down(h);
}

/* --- completions --- */

static void send_to(host h, stk_completions *queue, const char *action, int64_t n, uint64_t token, uint64_t deadline_ms)
{
    const stk_options options = {.struct_size = sizeof options, .deadline_ms = deadline_ms};
    stk_error *e = NULL;
    WORKS(stk_submit_to(h.client, STK_STR("t"), S(action), one(h, n), &options, queue, token, &e));
}

static bool readable(stk_completions *queue, int timeout_ms)
{
    struct pollfd fd = {.fd = stk_completions_fd(queue), .events = POLLIN};
    return poll(&fd, 1, timeout_ms) == 1;
}

/* The next outcome, as a loop comes by it. */
static stk_completion next(stk_completions *queue)
{
    stk_completion done;
    memset(&done, 0xee, sizeof done);
    while (stk_completions_next(queue, &done) == STK_PENDING) NEED(readable(queue, 30000));
    CHECK(done.more == 0 && (done.status == STK_OK) == (done.result != NULL));
    CHECK((done.status == STK_OK) == (done.error == NULL) && stk_error_status(done.error) == done.status);
    return done;
}

static void every_outcome_once(void)
{
    host h = host_up(workers(2));
    stk_completions *queue = queue_of(h);
    stk_completion done;
    int seen[640] = {0};
    IS(STK_PENDING, stk_completions_next(queue, &done));
    CHECK(!readable(queue, 0) && stk_completions_in_flight(queue) == 0);
    for (int sent = 0, got = 0; got < 640; got++) {
        while (sent < 640 && sent - got < 64) send_to(h, queue, "i64", sent * 3, (uint64_t)sent, 0), sent++;
        done = next(queue);
        NEED(done.token < 640);
        CHECK(number(done.result) == (int64_t)done.token * 3);
        seen[done.token]++;
    }
    for (int i = 0; i < 640; i++) CHECK(seen[i] == 1);
    send_to(h, queue, "fail", 0, 1, 0);
    done = next(queue);
    CHECK(done.status == STK_APP && strcmp(stk_error_class(done.error), "OutOfCoal") == 0);
    stk_error_free(done.error);
    send_to(h, queue, "abort", 0, 2, 0);
    done = next(queue);
    CHECK(done.status == STK_WORKER_DIED && stk_error_started(done.error) == 1);
    stk_error_free(done.error);
    IS(STK_PENDING, stk_completions_next(queue, &done));
    stk_completions_free(queue), stk_completions_free(NULL);
    host_down(h);
}

static void edge_triggered(void)
{
    host h = host_up(workers(1));
    stk_completions *queue = queue_of(h);
    stk_completion done;
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    NEED(epoll_ctl(epoll, EPOLL_CTL_ADD, stk_completions_fd(queue), &event) == 0);
    for (int i = 0; i < 500; i++) {
        send_to(h, queue, "i64", i, 0, 0);
        while (stk_completions_next(queue, &done) == STK_PENDING) NEED(epoll_wait(epoll, &event, 1, 30000) == 1);
        CHECK(number(done.result) == i);
    }
    close(epoll);
    stk_completions_free(queue);
    host_down(h);
}

static void deadlines_and_cancels(void)
{
    host h = patient(1);
    stk_completions *queue = queue_of(h);
    stk_completion done;
    send_to(h, queue, "sleep", 2000, 1, 1000);
    send_to(h, queue, "i64", 0, 2, 500);
    send_to(h, queue, "i64", 0, 3, 0);
    IS(STK_PENDING, stk_completions_next(queue, &done));
    IS(STK_OK, stk_completions_cancel(queue, 77));
    IS(STK_OK, stk_completions_cancel(queue, 3));
    CHECK(stk_completions_in_flight(queue) == 3);
    for (int i = 0; i < 3; i++) {
        done = next(queue);
        CHECK(done.status == (done.token == 3 ? STK_CANCELLED : STK_DEADLINE));
        CHECK(done.token == 1 || stk_error_started(done.error) == 0);
        stk_error_free(done.error);
    }
    CHECK(stk_completions_in_flight(queue) == 0);
    stk_completions_free(queue);
    host_down(h);
}

static void the_arbiter_dies(void)
{
    host h = host_up(workers(1));
    stk_completions *queue = queue_of(h);
    stk_completion done;
    send_to(h, queue, "sleep", 600000, 1, 0);
    send_to(h, queue, "sleep", 600000, 2, 0);
    IS(STK_PENDING, stk_completions_next(queue, &done));
    kill((pid_t)stk_pool_arbiter_pid(h.pool), SIGKILL);
    for (int i = 0; i < 2; i++) {
        done = next(queue);
        CHECK(done.status == STK_ARBITER_DIED);
        stk_error_free(done.error);
    }
    IS(STK_PENDING, stk_completions_next(queue, &done));
    CHECK(!readable(queue, 0)); /* a loop would spin */
    host_down(h);
    stk_completions_free(queue);
}

static void wrong_ones(void)
{
    host h = host_up(workers(1));
    stk_client *other = NULL;
    stk_error *e = NULL;
    WORKS(stk_client_new(h.pool, &other, &e));
    stk_completions *queue = queue_of(h), *second = NULL;
    FAILS(STK_BAD_REQUEST, "completions already", stk_completions_new(h.client, &second, &e));
    FAILS(STK_BAD_REQUEST, "another client's",
          stk_submit_to(other, STK_STR("t"), STK_STR("i64"), NULL, NULL, queue, 1, &e));
    FAILS(STK_BAD_REQUEST, "no app", stk_submit_to(h.client, STK_STR("x"), STK_STR("i64"), NULL, NULL, queue, 1, &e));
    CHECK(stk_completions_in_flight(queue) == 0);
    send_to(h, queue, "sleep", 600000, 1, 0);
    stk_completions_free(queue); /* cancels it */
    queue = queue_of(h);
    stk_client_free(other);
    host_down(h); /* the queue is used after its pool and its client are gone */
    stk_completion done;
    IS(STK_PENDING, stk_completions_next(queue, &done));
    IS(STK_OK, stk_completions_cancel(queue, 1));
    stk_completions_free(queue);
}

typedef struct {
    host h;
    stk_completions *queue;
    int from;
} part;

static void *submits(void *given)
{
    part *p = given;
    for (int i = 0; i < 200;) {
        stk_error *e = NULL;
        uint64_t token = (uint64_t)(p->from + i);
        stk_status status = stk_submit_to(p->h.client, STK_STR("t"), STK_STR("i64"), one(p->h, (int64_t)token), NULL, p->queue,
                                          token, &e);
        if (status == STK_OK) i++;
        else if (status != STK_OVERLOADED) return "not overloaded";
        stk_error_free(e);
    }
    return NULL;
}

static void threads_submit(void)
{
    host h = host_up(workers(2));
    stk_completions *queue = queue_of(h);
    pthread_t threads[4];
    part parts[4];
    int seen[800] = {0};
    for (int t = 0; t < 4; t++) {
        parts[t] = (part){h, queue, t * 200};
        NEED(pthread_create(&threads[t], NULL, submits, &parts[t]) == 0);
    }
    for (int got = 0; got < 800; got++) {
        stk_completion done = next(queue);
        NEED(done.token < 800);
        CHECK(number(done.result) == (int64_t)done.token);
        seen[done.token]++;
    }
    for (int t = 0; t < 4; t++) {
        void *wrong = NULL;
        pthread_join(threads[t], &wrong);
        CHECK(wrong == NULL);
    }
    for (int i = 0; i < 800; i++) CHECK(seen[i] == 1);
    stk_completions_free(queue);
    host_down(h);
}

static void null_and_misaligned(void)
{
    host h = host_up(workers(1));
    stk_completions *queue = queue_of(h);
    stk_pending *pending = submit(h, "sleep", 1, 0), *out = NULL;
    stk_error *e = NULL;
    stk_completion done;
    const stk_str t = STK_STR("t"), i64 = STK_STR("i64"), none = {NULL, 1};
    FAILS(STK_INVALID, "client", stk_submit(NULL, t, i64, one(h, 1), NULL, &out, &e));
    FAILS(STK_INVALID, "app", stk_submit(h.client, none, i64, one(h, 1), NULL, &out, &e));
    FAILS(STK_INVALID, "action", stk_submit(h.client, t, none, one(h, 1), NULL, &out, &e));
    FAILS(STK_INVALID, "pending", stk_submit(h.client, t, i64, one(h, 1), NULL, NULL, &e));
    FAILS(STK_INVALID, "pending", stk_pending_wait(NULL, 0, NULL, &e));
    FAILS(STK_INVALID, "pending", stk_pending_cancel(NULL, NULL, &e));
    FAILS(STK_INVALID, "result", stk_pending_wait(pending, 0, (stk_result **)((char *)&out + 1), &e));
    FAILS(STK_INVALID, "client", stk_completions_new(NULL, &queue, &e));
    FAILS(STK_INVALID, "completions", stk_completions_new(h.client, NULL, &e));
    FAILS(STK_INVALID, "completions", stk_submit_to(h.client, t, i64, one(h, 1), NULL, NULL, 0, &e));
    FAILS(STK_INVALID, "client", stk_submit_to(NULL, t, i64, one(h, 1), NULL, queue, 0, &e));
    IS(STK_INVALID, stk_completions_next(NULL, &done));
    IS(STK_INVALID, stk_completions_next(queue, NULL));
    IS(STK_INVALID, stk_completions_cancel(NULL, 1));
    CHECK(stk_completions_fd(NULL) == -1 && stk_completions_in_flight(NULL) == 0 && out == NULL);
    WORKS(stk_pending_wait(pending, STK_FOREVER, NULL, NULL));
    stk_pending_free(pending), stk_completions_free(queue);
    host_down(h);
}

int main(int argc, char **argv)
{
    static const stk_app apps[] = {{.struct_size = sizeof(stk_app), .name = "t", .call = app}};
    static const test tests[] = {
        TEST(a_wait_with_a_limit),
        TEST(a_deadline_of_one_that_is_only_looked_at),
        TEST(cancelled_and_dropped),
        TEST(sixty_four_in_flight),
        TEST(every_outcome_once),
        TEST(edge_triggered),
        TEST(deadlines_and_cancels),
        TEST(the_arbiter_dies),
        TEST(wrong_ones),
        TEST(threads_submit),
        TEST(null_and_misaligned),
    };
    stk_error *e = NULL;
    if (stk_init(apps, 1, NULL, &e)) return stk_error_print(e);
    return run_tests(tests, COUNT(tests), argc, argv);
}
