/* Both ends of a context used as they are not to be used, and with values of every kind. */
#include "check.h"

/* --- in a worker --- */

#define GOOD(cond) (void)(line = line || (cond) ? line : __LINE__)

/* The number of the first line that is not as it should be; the opener sends 1 and "x", and finishes. */
static int64_t misuse(const stk_call *call, stk_reply *reply)
{
    int line = 0;
    stk_sink *sink = NULL, *same = NULL;
    stk_inbox *inbox = NULL;
    stk_result *item = NULL, *held = NULL;
    stk_value value;
    stk_str text;
    int64_t n = 0;
    stk_reply_begin_list(reply);
    GOOD(stk_call_started(call, reply, &sink, &inbox) == STK_INVALID); /* half a value */
    stk_reply_str(reply, (stk_str){"\xff", 1});
    GOOD(stk_call_started(call, reply, &sink, &inbox) == STK_INVALID && sink == NULL && inbox == NULL);
    GOOD(stk_reply_str(reply, STK_STR("ready")) == STK_OK); /* what was refused is gone */
    GOOD(stk_call_started(NULL, reply, &sink, &inbox) == STK_INVALID && stk_call_started(call, NULL, &sink, &inbox) == STK_INVALID);
    GOOD(stk_call_started(call, reply, NULL, &inbox) == STK_INVALID && stk_call_started(call, reply, &sink, NULL) == STK_INVALID);
    GOOD(stk_call_started(call, reply, &sink, &inbox) == STK_OK);
    GOOD(stk_call_started(call, reply, &sink, &inbox) == STK_APP); /* once */
    GOOD(stk_call_sink(call, NULL, &same) == STK_OK && same == sink);
    GOOD(stk_inbox_next(NULL, 0, &item) == STK_INVALID);
    GOOD(stk_inbox_next(inbox, 0, (stk_result **)((char *)&item + 1)) == STK_INVALID);
    GOOD(stk_inbox_next(inbox, STK_FOREVER, &held) == STK_OK && stk_result_i64(held, &n) == STK_OK && n == 1);
    GOOD(stk_result_str(held, &text) == STK_VALUE && stk_result_worker(held) == 0 && stk_result_value(held, &value) == STK_OK);
    GOOD(value.kind == STK_KIND_I64 && stk_inbox_next(inbox, STK_FOREVER, NULL) == STK_OK); /* let go of */
    for (int twice = 0; twice < 2; twice++) GOOD(stk_inbox_next(inbox, STK_FOREVER, &item) == STK_END && item == NULL);
    GOOD(stk_inbox_next(inbox, 0, &item) == STK_END && stk_inbox_next(inbox, 10, &item) == STK_END);
    GOOD(stk_result_i64(held, &n) == STK_OK && n == 1); /* and is not freed here */
    stk_reply_i64(stk_sink_item(sink), 1);
    GOOD(stk_sink_send(sink) == STK_OK && stk_sink_finish(sink) == STK_OK && stk_sink_finish(sink) == STK_OK);
    GOOD(stk_sink_send(sink) == STK_CLOSED && stk_sink_finish(NULL) == STK_INVALID);
    return line;
}

/* Each kind of value, in the order in which the opener sends them. */
static stk_status kinds(stk_inbox *inbox, int64_t *n)
{
    static const uint32_t expected[] = {STK_KIND_NONE, STK_KIND_NONE, STK_KIND_BOOL, STK_KIND_F64, STK_KIND_DICT};
    stk_result *item;
    stk_value value, list;
    size_t len = 0;
    stk_status status;
    for (*n = 0; !(status = stk_inbox_next(inbox, STK_FOREVER, &item)); ++*n) {
        if (*n >= (int64_t)COUNT(expected) || stk_result_value(item, &value) || value.kind != expected[*n]) return STK_BAD_REQUEST;
        if (value.kind == STK_KIND_DICT && (stk_value_get(&value, STK_STR("k"), &list) || stk_value_len(&list, &len) || len != 2))
            return STK_BAD_REQUEST;
    }
    return status == STK_END ? STK_OK : status;
}

static stk_status app(uintptr_t user, const stk_call *call, stk_reply *reply)
{
    int64_t n = 0;
    stk_sink *sink;
    stk_inbox *inbox;
    stk_status status;
    (void)user;
    if (called(call, "misuse")) return n = misuse(call, reply), stk_reply_i64(reply, n);
    if ((status = stk_call_started(call, reply, &sink, &inbox))) return status;
    if (called(call, "kinds")) return (status = kinds(inbox, &n)) ? status : stk_reply_i64(reply, n);
    while (!(status = stk_inbox_next(inbox, STK_FOREVER, NULL))) n++;
    return status == STK_END ? stk_reply_i64(reply, n) : status;
}

/* --- in the host --- */

typedef struct {
    stk_stream *stream;
    stk_sender *sender;
} context;

static context begin(host h, const char *action)
{
    context c = {NULL, NULL};
    stk_error *e = NULL;
    WORKS(stk_context_open(h.client, STK_STR("t"), S(action), NULL, NULL, &c.stream, &c.sender, &e));
    return c;
}

static void end(context c) { stk_sender_free(c.sender), stk_stream_free(c.stream); }

static stk_status send_number(stk_sender *sender, int64_t n, stk_error **e)
{
    IS(STK_OK, stk_args_push_i64(stk_sender_item(sender), n));
    return stk_sender_send(sender, STK_FOREVER, e);
}

static void a_sender_that_is_misused(void)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    stk_lease lease;
    context c = begin(h, "count");
    stk_args *item = stk_sender_item(c.sender);
    CHECK(item == stk_sender_item(c.sender));
    IS(STK_OK, stk_args_push_i64(item, 7)), IS(STK_INVALID, stk_args_push_i64(item, 8)); /* an item is one value */
    FAILS(STK_INVALID, "the item", stk_sender_send(c.sender, 0, &e));
    IS(STK_INVALID, stk_args_key(item, STK_STR("name")));
    FAILS(STK_INVALID, "no name", stk_sender_send(c.sender, 0, &e));
    IS(STK_INVALID, stk_args_end(item));
    FAILS(STK_INVALID, "the item", stk_sender_send(c.sender, 0, &e));
    IS(STK_OK, stk_args_begin_dict(item)), IS(STK_OK, stk_args_key(item, STK_STR("k")));
    FAILS(STK_INVALID, "not ended", stk_sender_send(c.sender, 0, &e));
    WORKS(stk_lease_new(h.client, 10, &lease, &e));
    IS(STK_OK, stk_lease_release(lease));
    IS(STK_STALE_LEASE, stk_args_push_lease(item, lease));
    FAILS(STK_STALE_LEASE, "the item", stk_sender_send(c.sender, 0, &e));
    stk_args_free(item); /* refused: it is the sender's */
    FAILS(STK_INVALID, "a sender's item", run(h.client, "i64", item, NULL, &e));
    WORKS(send_number(c.sender, 0, &e)); /* what was refused is gone */
    IS(STK_OK, stk_args_push_i64(item, 99)); /* and what is not sent is not sent */
    IS(STK_OK, stk_sender_finish(c.sender));
    CHECK(end_of(c.stream) == 1);
    end(c);
    host_down(h);
}

static void an_inbox_that_is_misused(void)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    stk_value value;
    context c = begin(h, "misuse");
    WORKS(send_number(c.sender, 1, &e));
    IS(STK_OK, stk_args_push_str(stk_sender_item(c.sender), STK_STR("x")));
    WORKS(stk_sender_send(c.sender, STK_FOREVER, &e));
    IS(STK_OK, stk_sender_finish(c.sender));
    CHECK(next_number(c.stream) == 1 && next_number(c.stream) == -1);
    const int64_t line = end_of(c.stream);
    if (line) CHECK(!"what was wrong is in:"), fprintf(stderr, "%s:%d\n", __FILE__, (int)line);
    IS(STK_OK, stk_stream_started(c.stream, &value));
    end(c);
    host_down(h);
}

static void values_of_every_kind(void)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    context c = begin(h, "kinds");
    stk_args *item = stk_sender_item(c.sender);
    WORKS(stk_sender_send(c.sender, 0, &e)); /* nothing put in is none */
    stk_args_push_none(item), WORKS(stk_sender_send(c.sender, 0, &e));
    stk_args_push_bool(item, true), WORKS(stk_sender_send(c.sender, 0, &e));
    stk_args_push_f64(item, 0.5), WORKS(stk_sender_send(c.sender, 0, &e));
    stk_args_begin_dict(item), stk_args_key(item, STK_STR("k")), stk_args_begin_list(item);
    stk_args_push_i64(item, 1), stk_args_push_str(item, STK_STR("two")), stk_args_end(item), stk_args_end(item);
    WORKS(stk_sender_send(c.sender, 0, &e));
    IS(STK_OK, stk_sender_finish(c.sender));
    CHECK(end_of(c.stream) == 5);
    end(c);
    host_down(h);
}

int main(int argc, char **argv)
{
    static const stk_app apps[] = {{.struct_size = sizeof(stk_app), .name = "t", .call = app}};
    static const test tests[] = {TEST(a_sender_that_is_misused), TEST(an_inbox_that_is_misused), TEST(values_of_every_kind)};
    stk_error *e = NULL;
    if (stk_init(apps, 1, NULL, &e)) return stk_error_print(e);
    return run_tests(tests, COUNT(tests), argc, argv);
}
