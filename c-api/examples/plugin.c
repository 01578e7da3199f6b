/* A host that cannot call stk_init first (a plug-in, another language's runtime): its pool is a helper program.
 * Usage: plugin PATH-OF-HELPER */
#include <inttypes.h>
#include <stdio.h>

#include "stokehold.h"

int main(int argc, char **argv)
{
    stk_error *e = NULL;
    stk_pool *pool;
    stk_client *client;
    stk_result *result;
    stk_value dict, value;
    stk_str hello;
    int64_t letters;

    if (argc != 2) return fprintf(stderr, "usage: plugin PATH-OF-HELPER\n"), 2;
    stk_config *config = stk_config_new();
    stk_config_set_helper(config, stk_str_from(argv[1]));
    stk_config_add_app(config, STK_STR("greeter"));
    if (stk_pool_start(config, &pool, &e)) return stk_error_print(e);
    if (stk_client_new(pool, &client, &e)) return stk_error_print(e);

    stk_args *args = stk_args_new(client);
    stk_args_push_str(args, STK_STR("stoker"));
    if (stk_execute(client, STK_STR("greeter"), STK_STR("greet"), args, NULL, &result, &e)) return stk_error_print(e);
    if (stk_result_value(result, &dict)) return 1;
    if (stk_value_get(&dict, STK_STR("hello"), &value) || stk_value_str(&value, &hello)) return 1;
    if (stk_value_get(&dict, STK_STR("letters"), &value) || stk_value_i64(&value, &letters)) return 1;
    printf("hello %.*s, %" PRId64 " letters\n", (int)hello.len, hello.data, letters);

    stk_pool_free(pool); /* in any order */
    stk_client_free(client);
    stk_result_free(result);
    return 0;
}
