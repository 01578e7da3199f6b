/* The helper of plugin.c: a program that is nothing but the pool's apps. */
#include "stokehold.h"

static stk_status call(uintptr_t user, const stk_call *call, stk_reply *reply)
{
    stk_str name;
    (void)user;
    if (stk_call_str(call, 0, &name)) return STK_BAD_REQUEST;
    stk_reply_begin_dict(reply); /* {"hello": name, "letters": n} */
    stk_reply_key(reply, STK_STR("hello"));
    stk_reply_str(reply, name);
    stk_reply_key(reply, STK_STR("letters"));
    stk_reply_i64(reply, (int64_t)name.len);
    return stk_reply_end(reply);
}

int main(void)
{
    static const stk_app apps[] = {{.struct_size = sizeof(stk_app), .name = "greeter", .call = call}};
    stk_error *e = NULL;
    if (stk_init(apps, 1, NULL, &e)) return stk_error_print(e);
    return 0; /* started by hand, it has nothing to do */
}
