/* A result that comes in pieces: the caller has each word when the app has made it, and stops when it has had enough. */
#include <inttypes.h>
#include <stdio.h>

#include "stokehold.h"

/* In a worker process: an item a word, and in the end how many they were. */
static stk_status split(uintptr_t user, const stk_call *call, stk_reply *reply)
{
    stk_str text;
    stk_sink *sink;
    stk_status status;
    int64_t words = 0;
    (void)user;
    if (!stk_str_eq(stk_call_action(call), STK_STR("words"))) return stk_call_no_action(call);
    if (stk_call_str(call, 0, &text)) return STK_BAD_REQUEST;
    if ((status = stk_call_sink(call, NULL, &sink))) return status;
    for (size_t begin = 0, i = 0; i <= text.len; i++) {
        if (i < text.len && text.data[i] != ' ') continue;
        stk_reply_str(stk_sink_item(sink), (stk_str){text.data + begin, i - begin});
        if ((status = stk_sink_send(sink))) return status; /* waits while the caller does not keep up; ends if it has left */
        begin = i + 1;
        words++;
    }
    return stk_reply_i64(reply, words);
}

static int print_words(stk_client *client, const char *text, int most)
{
    stk_error *e = NULL;
    stk_stream *stream;
    stk_result *item;
    stk_value value;
    stk_str word;
    stk_status status = STK_OK;
    int64_t words;

    stk_args *args = stk_args_new(client);
    stk_args_push_str(args, stk_str_from(text));
    if (stk_stream_open(client, STK_STR("split"), STK_STR("words"), args, NULL, &stream, &e)) return stk_error_print(e);
    while (most-- > 0 && !(status = stk_stream_next(stream, STK_FOREVER, &item, &e))) {
        if (stk_result_str(item, &word)) return 1;
        printf("%.*s\n", (int)word.len, word.data);
        stk_result_free(item); /* makes room for further ones */
    }
    if (status == STK_END) {
        if (stk_stream_value(stream, &value) || stk_value_i64(&value, &words)) return 1;
        printf("%" PRId64 " words\n", words);
    } else if (status) return stk_error_print(e);
    stk_stream_free(stream); /* cancels what has not ended */
    return 0;
}

int main(void)
{
    static const stk_app apps[] = {{.struct_size = sizeof(stk_app), .name = "split", .call = split}};
    stk_error *e = NULL;
    stk_pool *pool;
    stk_client *client;

    if (stk_init(apps, 1, NULL, &e)) return stk_error_print(e);
    if (stk_pool_start(NULL, &pool, &e)) return stk_error_print(e);
    if (stk_client_new(pool, &client, &e)) return stk_error_print(e);
    if (print_words(client, "shovel the coal", 100)) return 1;
    if (print_words(client, "enough is enough", 1)) return 1;
    stk_client_free(client);
    stk_pool_free(pool);
    return 0;
}
