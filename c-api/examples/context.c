/* A call with items both ways: the app keeps what belongs to one conversation, for as long as that lasts. */
#include <inttypes.h>
#include <stdio.h>

#include "stokehold.h"

/* In a worker process: each line comes back, and in the end how many they were. */
static stk_status echo(uintptr_t user, const stk_call *call, stk_reply *reply)
{
    stk_sink *sink;
    stk_inbox *inbox;
    stk_result *item;
    stk_str line;
    stk_status status;
    int64_t lines = 0;
    (void)user;
    stk_reply_str(reply, STK_STR("ready")); /* which the opener has before anything else */
    if ((status = stk_call_started(call, reply, &sink, &inbox))) return status;
    while (!(status = stk_inbox_next(inbox, STK_FOREVER, &item))) {
        if (stk_result_str(item, &line)) return STK_BAD_REQUEST;
        stk_reply_str(stk_sink_item(sink), line);
        stk_result_free(item);
        if ((status = stk_sink_send(sink))) return status;
        lines++;
    }
    return status == STK_END ? stk_reply_i64(reply, lines) : status; /* else nobody waits any more */
}

int main(void)
{
    static const stk_app apps[] = {{.struct_size = sizeof(stk_app), .name = "echo", .call = echo}};
    static const char *const said[] = {"shovel", "the", "coal"};
    stk_error *e = NULL;
    stk_pool *pool;
    stk_client *client;
    stk_stream *stream;
    stk_sender *sender;
    stk_result *item;
    stk_value value;
    stk_str text;
    int64_t lines;

    if (stk_init(apps, 1, NULL, &e) || stk_pool_start(NULL, &pool, &e) || stk_client_new(pool, &client, &e)) return stk_error_print(e);
    if (stk_context_open(client, STK_STR("echo"), STK_STR("talk"), NULL, NULL, &stream, &sender, &e)) return stk_error_print(e);
    if (stk_stream_started(stream, &value) || stk_value_str(&value, &text)) return 1;
    printf("%.*s\n", (int)text.len, text.data);
    for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
        stk_args_push_str(stk_sender_item(sender), stk_str_from(said[i]));
        if (stk_sender_send(sender, STK_FOREVER, &e) || stk_stream_next(stream, STK_FOREVER, &item, &e)) return stk_error_print(e);
        if (stk_result_str(item, &text)) return 1;
        printf("%.*s\n", (int)text.len, text.data);
        stk_result_free(item);
    }
    if (stk_sender_finish(sender) || stk_stream_wait(stream, STK_FOREVER, &e)) return stk_error_print(e); /* the app's loop ends */
    if (stk_stream_value(stream, &value) || stk_value_i64(&value, &lines)) return 1;
    printf("%" PRId64 " lines\n", lines);
    stk_sender_free(sender), stk_stream_free(stream), stk_client_free(client), stk_pool_free(pool);
    return 0;
}
