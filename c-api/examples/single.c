/* The smallest host: one thread, one pool, one call; and what it looks like when a worker dies in the middle of one. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "stokehold.h"

/* In a worker process. What this crashes, it crashes there. */
static stk_status calc(uintptr_t user, const stk_call *call, stk_reply *reply)
{
    int64_t a, b;
    (void)user;
    if (stk_str_eq(stk_call_action(call), STK_STR("crash"))) abort();
    if (!stk_str_eq(stk_call_action(call), STK_STR("add"))) return stk_call_no_action(call);
    if (stk_call_i64(call, 0, &a) || stk_call_i64(call, 1, &b)) return STK_BAD_REQUEST;
    return stk_reply_i64(reply, a + b);
}

int main(void)
{
    static const stk_app apps[] = {{.struct_size = sizeof(stk_app), .name = "calc", .call = calc}};
    stk_error *e = NULL;
    stk_pool *pool;
    stk_client *client;
    stk_result *result;
    int64_t sum = 0;

    if (stk_init(apps, 1, NULL, &e)) return stk_error_print(e); /* first: the supervisor does not return from here */

    stk_config *config = stk_config_new();
    stk_config_set_workers(config, 2);
    if (stk_pool_start(config, &pool, &e)) return stk_error_print(e); /* consumes the configuration */
    if (stk_client_new(pool, &client, &e)) return stk_error_print(e);

    stk_args *args = stk_args_new(client);
    stk_args_push_i64(args, 2);
    stk_args_push_i64(args, 3);
    if (stk_execute(client, STK_STR("calc"), STK_STR("add"), args, NULL, &result, &e)) return stk_error_print(e);
    if (stk_result_i64(result, &sum)) return 1;
    printf("2 + 3 = %" PRId64 "\n", sum);
    stk_result_free(result);

    if (stk_execute(client, STK_STR("calc"), STK_STR("crash"), NULL, NULL, NULL, &e) != STK_WORKER_DIED) return 1;
    printf("crash: %s\n", stk_error_message(e)); /* one outcome, and the host lives on */
    stk_error_free(e);
    e = NULL;

    stk_client_free(client);
    if (stk_pool_stop(pool, &e)) return stk_error_print(e);
    stk_pool_free(pool);
    return sum == 5 ? 0 : 1;
}
