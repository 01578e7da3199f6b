/* A stream, its items and what else hangs on it, freed in any order, and seen from a copy of the process. */
#include "check.h"

enum { LENGTH = 100000 };

static stk_status app(uintptr_t user, const stk_call *call, stk_reply *reply)
{
    int64_t n = 0;
    stk_sink *sink;
    stk_lease lease;
    stk_status status = STK_OK;
    (void)user;
    if (stk_call_i64(call, 0, &n)) return STK_BAD_REQUEST;
    if (called(call, "context")) {
        stk_inbox *inbox;
        if ((status = stk_call_started(call, reply, &sink, &inbox))) return status;
    } else if ((status = stk_call_sink(call, NULL, &sink))) return status;
    for (int64_t i = 0; i < n && !status; i++) {
        if ((status = stk_call_lease(call, LENGTH, &lease))) return status;
        fill(lease.data, LENGTH, i);
        stk_reply_lease(stk_sink_item(sink), lease, LENGTH);
        status = stk_sink_send(sink);
    }
    return status;
}

static stk_stream *begin(host h, int64_t n)
{
    stk_stream *stream = NULL;
    stk_error *e = NULL;
    stk_args *args = stk_args_new(h.client);
    stk_args_push_i64(args, n);
    WORKS(stk_stream_open(h.client, STK_STR("t"), STK_STR("lent"), args, NULL, &stream, &e));
    return stream;
}

static stk_stream *open_context(host h, int64_t n, stk_sender **sender)
{
    stk_stream *stream = NULL;
    stk_error *e = NULL;
    stk_args *args = stk_args_new(h.client);
    stk_args_push_i64(args, n);
    WORKS(stk_context_open(h.client, STK_STR("t"), STK_STR("context"), args, NULL, &stream, sender, &e));
    return stream;
}

enum { POOL, CLIENT, STREAM, SECOND, FIRST, CANCELLER, SENDER, OBJECTS };

typedef struct {
    host h;
    stk_stream *stream;
    stk_sender *sender;
    stk_result *first, *second;
    stk_canceller *canceller;
} objects;

static void free_one(objects *o, int which)
{
    switch (which) {
    case POOL: stk_pool_free(o->h.pool); break;
    case CLIENT: stk_client_free(o->h.client); break;
    case STREAM: stk_stream_free(o->stream); break;
    case SECOND: stk_result_free(o->second); break;
    case FIRST: stk_result_free(o->first); break;
    case CANCELLER: stk_canceller_free(o->canceller); break;
    case SENDER: stk_sender_free(o->sender); break;
    }
}

static bool has(const int *order, int n, int which)
{
    for (int i = 0; i < n; i++)
        if (order[i] == which) return true;
    return false;
}

/* What is not freed can be used, in the middle of a stream that goes on. */
static void free_in_order(stk_pool *shared, const int *order, int n)
{
    objects o = {{shared, NULL}, NULL, NULL, NULL, NULL, NULL};
    stk_error *e = NULL;
    stk_bytes bytes;
    bool freed[OBJECTS] = {false};
    if (!shared) WORKS(stk_pool_start(NULL, &o.h.pool, &e));
    WORKS(stk_client_new(o.h.pool, &o.h.client, &e));
    o.stream = has(order, n, SENDER) ? open_context(o.h, 1000000, &o.sender) : begin(o.h, 1000000);
    WORKS(stk_stream_next(o.stream, STK_FOREVER, &o.first, &e));
    stk_stream *other = begin(o.h, 1); /* waits for its turn */
    IS(STK_OK, stk_stream_canceller(o.stream, &o.canceller, NULL));
    WORKS(stk_stream_next(o.stream, STK_FOREVER, &o.second, &e));
    stk_stream_free(other);
    for (int i = 0; i < n; i++) {
        free_one(&o, order[i]);
        freed[order[i]] = true;
        if (!freed[FIRST]) CHECK(stk_result_bytes(o.first, &bytes) == STK_OK && is_filled(bytes, LENGTH, 0));
        if (!freed[SECOND]) CHECK(stk_result_bytes(o.second, &bytes) == STK_OK && is_filled(bytes, LENGTH, 1));
        if (!freed[CANCELLER] && i == n - 2) IS(STK_OK, stk_canceller_cancel(o.canceller, NULL));
        if (o.sender && !freed[SENDER]) {
            IS(STK_OK, stk_args_push_i64(stk_sender_item(o.sender), i));
            const stk_status status = stk_sender_send(o.sender, 0, NULL);
            CHECK(freed[POOL] || freed[STREAM] || freed[CANCELLER] || i == n - 2 ? status == STK_OK || status == STK_CLOSED ||
                  status == STK_ARBITER_DIED : status == STK_OK);
        }
        if (!freed[STREAM]) {
            stk_result *item = NULL;
            const stk_status status = stk_stream_next(o.stream, 0, &item, &e);
            CHECK(freed[POOL] || status == STK_OK || status == STK_PENDING || status == STK_CANCELLED || status == STK_END);
            stk_error_free(e), e = NULL;
            stk_result_free(item);
        }
    }
}

/* Heap's algorithm: all orders of `n` things, every `step`th of them. */
static void permute(stk_pool *shared, int *order, int n, int all, int step, int *made)
{
    if (n == 1) {
        if ((*made)++ % step == 0) free_in_order(shared, order, all);
        return;
    }
    for (int i = 0; i < n; i++) {
        permute(shared, order, n - 1, all, step, made);
        const int k = n % 2 ? 0 : i, other = order[k];
        order[k] = order[n - 1], order[n - 1] = other;
    }
}

static void freed_in_every_order(void)
{
    int order[] = {CLIENT, STREAM, SECOND, FIRST, CANCELLER}, made = 0;
    stk_pool *pool = NULL;
    stk_error *e = NULL;
    WORKS(stk_pool_start(NULL, &pool, &e));
    permute(pool, order, COUNT(order), COUNT(order), under("valgrind") ? 11 : 1, &made);
    CHECK(made == 120);
    stk_pool_free(pool);
}

static void contexts_freed_in_every_order(void)
{
    int order[] = {CLIENT, STREAM, SECOND, FIRST, CANCELLER, SENDER}, made = 0;
    stk_pool *pool = NULL;
    stk_error *e = NULL;
    WORKS(stk_pool_start(NULL, &pool, &e));
    permute(pool, order, COUNT(order), COUNT(order), under("valgrind") ? 41 : 3, &made);
    CHECK(made == 720);
    stk_pool_free(pool);
}

static void contexts_freed_with_the_pool(void)
{
    int order[] = {POOL, CLIENT, STREAM, SECOND, FIRST, CANCELLER, SENDER}, made = 0;
    permute(NULL, order, COUNT(order), COUNT(order), under("valgrind") ? 1201 : 211, &made);
    CHECK(made == 5040);
}

static void freed_with_the_pool(void)
{
    int order[] = {POOL, CLIENT, STREAM, SECOND, FIRST, CANCELLER}, made = 0;
    permute(NULL, order, COUNT(order), COUNT(order), under("valgrind") ? 181 : 43, &made);
    CHECK(made == 720);
}

static void in_a_forked_copy(void)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    stk_canceller *canceller = NULL;
    stk_stream *stream = begin(h, 10);
    WORKS(stk_stream_next(stream, STK_FOREVER, NULL, &e));
    IS(STK_OK, stk_stream_canceller(stream, &canceller, NULL));
    const pid_t pid = fork();
    if (pid == 0) {
        const bool good = stk_stream_next(stream, 0, NULL, NULL) == STK_FORKED && stk_canceller_cancel(canceller, NULL) == STK_OK;
        stk_stream_free(stream), stk_canceller_free(canceller);
        _exit(good ? 0 : 1);
    }
    int status = -1;
    NEED(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    for (int i = 1; i < 10; i++) WORKS(stk_stream_next(stream, STK_FOREVER, NULL, &e));
    IS(STK_END, stk_stream_next(stream, STK_FOREVER, NULL, &e)); /* as if nothing had been */
    stk_stream_free(stream), stk_canceller_free(canceller);
    host_down(h);
}

static void a_context_in_a_forked_copy(void)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    stk_sender *sender = NULL;
    stk_stream *stream = open_context(h, 200, &sender); /* more than there is room for: it goes on */
    const pid_t pid = fork();
    if (pid == 0) {
        stk_args_push_i64(stk_sender_item(sender), 1);
        const bool good = stk_stream_next(stream, 0, NULL, NULL) == STK_FORKED && stk_sender_send(sender, 0, NULL) == STK_FORKED;
        stk_stream_free(stream), stk_sender_free(sender);
        _exit(good ? 0 : 1);
    }
    int status = -1;
    NEED(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    WORKS(stk_sender_send(sender, 0, &e));
    for (int i = 0; i < 200; i++) WORKS(stk_stream_next(stream, STK_FOREVER, NULL, &e)); /* as if nothing had been */
    WORKS(stk_stream_wait(stream, STK_FOREVER, &e));
    stk_sender_free(sender), stk_stream_free(stream);
    host_down(h);
}

int main(int argc, char **argv)
{
    static const stk_app apps[] = {{.struct_size = sizeof(stk_app), .name = "t", .call = app}};
    static const test tests[] = {
        TEST(freed_in_every_order), TEST(freed_with_the_pool), TEST(contexts_freed_in_every_order),
        TEST(contexts_freed_with_the_pool), TEST(in_a_forked_copy), TEST(a_context_in_a_forked_copy),
    };
    stk_error *e = NULL;
    if (stk_init(apps, 1, NULL, &e)) return stk_error_print(e);
    return run_tests(tests, COUNT(tests), argc, argv);
}
