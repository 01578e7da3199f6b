/* A library of apps: a shared object that `stokehold serve --app-library` and stk_config_set_app_library load in workers.
 *     cc -shared -fPIC library.c $(pkg-config --cflags --libs stokehold) -o libletters.so */
#include "stokehold.h"

static stk_status call(uintptr_t user, const stk_call *call, stk_reply *reply)
{
    stk_str text;
    (void)user;
    if (!stk_str_eq(stk_call_action(call), STK_STR("count"))) return stk_call_no_action(call);
    if (stk_call_str(call, 0, &text)) return STK_BAD_REQUEST;
    return stk_reply_i64(reply, (int64_t)text.len);
}

static const stk_app apps[] = {{.struct_size = sizeof(stk_app), .name = "letters", .call = call}};
STK_APP_LIBRARY(apps, 1, NULL);
