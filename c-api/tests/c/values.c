/* Every kind of value, in and out: what is put in arrives, what is put in wrongly is refused. */
#include "check.h"

#include <math.h>

/* Copies a value into a reply, whatever it is. */
static stk_status copy(stk_reply *reply, const stk_value *value)
{
    bool b;
    int64_t i;
    double f;
    stk_str text;
    stk_bytes bytes;
    stk_iter iter;
    stk_value item;
    stk_status status;
    switch (value->kind) {
    case STK_KIND_NONE: return stk_reply_none(reply);
    case STK_KIND_BOOL: return stk_value_bool(value, &b) ? STK_APP : stk_reply_bool(reply, b);
    case STK_KIND_I64: return stk_value_i64(value, &i) ? STK_APP : stk_reply_i64(reply, i);
    case STK_KIND_F64: return stk_value_f64(value, &f) ? STK_APP : stk_reply_f64(reply, f);
    case STK_KIND_STR: return stk_value_str(value, &text) ? STK_APP : stk_reply_str(reply, text);
    case STK_KIND_BYTES: return stk_value_bytes(value, &bytes) ? STK_APP : stk_reply_bytes(reply, bytes.data, bytes.len);
    case STK_KIND_LIST:
    case STK_KIND_DICT:
        if (value->kind == STK_KIND_LIST ? stk_reply_begin_list(reply) : stk_reply_begin_dict(reply)) return STK_APP;
        if (stk_value_iter(value, &iter)) return STK_APP;
        while (!(status = stk_iter_next(&iter, &text, &item)))
            if ((value->kind == STK_KIND_DICT && stk_reply_key(reply, text)) || copy(reply, &item)) return STK_APP;
        return status == STK_END ? stk_reply_end(reply) : status;
    }
    return STK_APP;
}

/* Replies that are put together wrongly. */
static stk_status wrong(stk_reply *reply, int64_t which)
{
    switch (which) {
    case 0: stk_reply_i64(reply, 1); return say(reply, stk_reply_i64(reply, 2) == STK_INVALID, "two"), STK_OK;
    case 1: return stk_reply_begin_list(reply);
    case 2: return stk_reply_end(reply), STK_OK;
    case 3: return stk_reply_key(reply, STK_STR("k")), STK_OK;
    case 4: stk_reply_begin_dict(reply), stk_reply_i64(reply, 1); return STK_OK;
    case 5: stk_reply_begin_dict(reply), stk_reply_key(reply, STK_STR("k")), stk_reply_end(reply); return STK_OK;
    case 6: stk_reply_begin_dict(reply), stk_reply_key(reply, STK_STR("k")); return stk_reply_key(reply, STK_STR("l")), STK_OK;
    case 7: return stk_reply_str(reply, (stk_str){"\xc3\x28", 2}), STK_OK;
    case 8: return stk_reply_bytes(reply, NULL, 3), STK_OK;
    case 9: return stk_reply_bytes(reply, NULL, 0); /* which is right */
    }
    return STK_APP;
}

static stk_status app(uintptr_t user, const stk_call *call, stk_reply *reply)
{
    stk_value value, all;
    int64_t n = 0;
    size_t len = 0;
    (void)user;
    if (called(call, "echo")) return stk_call_arg(call, 0, &value) ? STK_BAD_REQUEST : copy(reply, &value);
    if (called(call, "all")) return stk_call_args(call, &value) ? STK_APP : copy(reply, &value);
    if (called(call, "named")) return stk_call_named_args(call, &value) ? STK_APP : copy(reply, &value);
    if (called(call, "one_named")) {
        stk_str name;
        if (stk_call_str(call, 0, &name)) return STK_BAD_REQUEST;
        const stk_status status = stk_call_named(call, name, &value);
        return status == STK_END ? stk_reply_str(reply, STK_STR("none of it")) : status ? status : copy(reply, &value);
    }
    if (called(call, "wrong")) return stk_call_i64(call, 0, &n) ? STK_BAD_REQUEST : wrong(reply, n);
    if (called(call, "lens")) {
        if (stk_call_args(call, &all) || stk_value_len(&all, &len)) return STK_APP;
        return len != stk_call_len(call) ? STK_APP : stk_reply_i64(reply, (int64_t)len);
    }
    if (called(call, "deep")) { /* lists within each other */
        if (stk_call_i64(call, 0, &n)) return STK_BAD_REQUEST;
        for (int64_t i = 0; i < n; i++) stk_reply_begin_list(reply);
        for (int64_t i = 0; i < n; i++) stk_reply_end(reply);
        return STK_OK;
    }
    if (called(call, "who")) {
        if (!stk_str_eq(stk_call_app(call), STK_STR("t"))) return STK_APP;
        return stk_reply_str(reply, stk_call_action(call));
    }
    if (called(call, "typed")) { /* bool, i64, f64, str, bytes as its own types, and each as another */
        bool b = false;
        double f = 0;
        stk_str text;
        stk_bytes bytes;
        if (stk_call_bool(call, 0, &b) || stk_call_i64(call, 1, &n) || stk_call_f64(call, 2, &f)) return STK_BAD_REQUEST;
        if (stk_call_str(call, 3, &text) || stk_call_bytes(call, 4, &bytes)) return STK_BAD_REQUEST;
        if (!b || n != 7 || f != 0.5 || !stk_str_eq(text, STK_STR("text")) || bytes.len != 2) return STK_APP;
        if (stk_call_f64(call, 1, &f) || f != 7) return STK_APP; /* an integer becomes a number, and nothing else does */
        if (stk_call_i64(call, 0, &n) != STK_VALUE || stk_call_bool(call, 1, &b) != STK_VALUE) return STK_APP;
        if (stk_call_i64(call, 2, &n) != STK_VALUE || stk_call_bytes(call, 3, &bytes) != STK_VALUE) return STK_APP;
        if (stk_call_str(call, 4, &text) != STK_VALUE || stk_call_f64(call, 3, &f) != STK_VALUE) return STK_APP;
        if (stk_call_i64(call, 5, &n) != STK_VALUE || stk_call_i64(call, SIZE_MAX, &n) != STK_VALUE) return STK_APP;
        return n == 7 && b ? stk_reply_none(reply) : STK_APP; /* outputs are written on success only */
    }
    return stk_call_no_action(call);
}

static host h;

/* What comes back of one argument. */
static stk_result *echo(stk_args *args, stk_value *value)
{
    stk_result *result = NULL;
    stk_error *e = NULL;
    WORKS(run(h.client, "echo", args, &result, &e));
    IS(STK_OK, stk_result_value(result, value));
    return result;
}

static void scalars(void)
{
    stk_value value;
    stk_result *result;
    stk_args *args = stk_args_new(h.client);
    IS(STK_OK, stk_args_push_none(args));
    result = echo(args, &value);
    CHECK(value.kind == STK_KIND_NONE);
    stk_result_free(result);
    for (int b = 0; b < 2; b++) {
        bool out = !b;
        args = stk_args_new(h.client), stk_args_push_bool(args, b);
        result = echo(args, &value);
        CHECK(value.kind == STK_KIND_BOOL && stk_value_bool(&value, &out) == STK_OK && out == (bool)b);
        CHECK(stk_result_bool(result, &out) == STK_OK && out == (bool)b);
        stk_result_free(result);
    }
    static const int64_t numbers[] = {0, 1, -1, 127, 128, -128, -129, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < COUNT(numbers); i++) {
        int64_t out = 5;
        double number = 0;
        args = stk_args_new(h.client), stk_args_push_i64(args, numbers[i]);
        result = echo(args, &value);
        CHECK(value.kind == STK_KIND_I64 && stk_value_i64(&value, &out) == STK_OK && out == numbers[i]);
        CHECK(stk_result_i64(result, &out) == STK_OK && out == numbers[i]);
        if (numbers[i] == INT64_MAX) IS(STK_VALUE, stk_result_f64(result, &number)); /* no double is that */
        else CHECK(stk_result_f64(result, &number) == STK_OK && number == (double)numbers[i]);
        stk_result_free(result);
    }
    static const double doubles[] = {0, -0.0, 1.5, -1e300, 5e-324, INFINITY, -INFINITY, NAN};
    for (size_t i = 0; i < COUNT(doubles); i++) {
        double out = 5;
        args = stk_args_new(h.client), stk_args_push_f64(args, doubles[i]);
        result = echo(args, &value);
        CHECK(value.kind == STK_KIND_F64 && stk_value_f64(&value, &out) == STK_OK);
        CHECK(memcmp(&out, &doubles[i], sizeof out) == 0 || (isnan(out) && isnan(doubles[i])));
        stk_result_free(result);
    }
}

static void text_and_bytes(void)
{
    stk_value value;
    stk_result *result;
    stk_str text;
    stk_bytes bytes;
    char *big = malloc(1 << 20);
    NEED(big != NULL);
    for (size_t i = 0; i < 1 << 20; i++) big[i] = (char)('a' + i % 26);
    const stk_str texts[] = {STK_STR(""), {NULL, 0}, STK_STR("stoker"), STK_STR("a\0b\0"), STK_STR("\xe2\x98\x83\xf0\x9f\x94\xa5"), {big, 1000}, {big, 1 << 20}};
    for (size_t i = 0; i < COUNT(texts); i++) {
        stk_args *args = stk_args_new(h.client);
        IS(STK_OK, stk_args_push_str(args, texts[i]));
        result = echo(args, &value);
        CHECK(value.kind == STK_KIND_STR && stk_value_str(&value, &text) == STK_OK && stk_str_eq(text, texts[i]));
        CHECK(stk_result_str(result, &text) == STK_OK && stk_str_eq(text, texts[i]));
        stk_result_free(result);
        args = stk_args_new(h.client);
        IS(STK_OK, stk_args_push_bytes(args, texts[i].data, texts[i].len));
        result = echo(args, &value);
        CHECK(value.kind == STK_KIND_BYTES && stk_value_bytes(&value, &bytes) == STK_OK && bytes.len == texts[i].len);
        CHECK(bytes.len == 0 || memcmp(bytes.data, texts[i].data, bytes.len) == 0);
        stk_result_free(result);
    }
    stk_args *args = stk_args_new(h.client);
    IS(STK_OK, stk_args_push_str(args, (stk_str){big, 5000}));
    memset(big, '!', 5000); /* it was copied */
    result = echo(args, &value);
    CHECK(stk_value_str(&value, &text) == STK_OK && text.len == 5000 && text.data[0] == 'a');
    stk_result_free(result);
    free(big);
    CHECK(stk_str_eq(S("x"), STK_STR("x")) && !stk_str_eq(S("x"), STK_STR("xx")) && stk_str_eq(S(NULL), STK_STR("")));
    CHECK(S("abc").len == 3 && S(NULL).data == NULL && S(NULL).len == 0);
}

/* [1, [], {}, {"a": [none, "x"], "b": {"c": true}, "": 2.5}] */
static void put_nested(stk_args *args)
{
    IS(STK_OK, stk_args_begin_list(args));
    IS(STK_OK, stk_args_push_i64(args, 1));
    IS(STK_OK, stk_args_begin_list(args)), IS(STK_OK, stk_args_end(args));
    IS(STK_OK, stk_args_begin_dict(args)), IS(STK_OK, stk_args_end(args));
    IS(STK_OK, stk_args_begin_dict(args));
    IS(STK_OK, stk_args_key(args, STK_STR("a"))), IS(STK_OK, stk_args_begin_list(args));
    IS(STK_OK, stk_args_push_none(args)), IS(STK_OK, stk_args_push_str(args, STK_STR("x"))), IS(STK_OK, stk_args_end(args));
    IS(STK_OK, stk_args_key(args, STK_STR("b"))), IS(STK_OK, stk_args_begin_dict(args));
    IS(STK_OK, stk_args_key(args, STK_STR("c"))), IS(STK_OK, stk_args_push_bool(args, true)), IS(STK_OK, stk_args_end(args));
    IS(STK_OK, stk_args_key(args, STK_STR(""))), IS(STK_OK, stk_args_push_f64(args, 2.5));
    IS(STK_OK, stk_args_end(args)), IS(STK_OK, stk_args_end(args));
}

static void check_nested(const stk_value *list)
{
    size_t len = 9;
    stk_iter iter, inner;
    stk_value v, w;
    stk_str key, text;
    int64_t n = 0;
    double f = 0;
    bool b = false;
    CHECK(list->kind == STK_KIND_LIST && stk_value_len(list, &len) == STK_OK && len == 4);
    IS(STK_OK, stk_value_iter(list, &iter));
    IS(STK_OK, stk_iter_next(&iter, &key, &v));
    CHECK(key.len == 0 && stk_value_i64(&v, &n) == STK_OK && n == 1);
    IS(STK_OK, stk_iter_next(&iter, NULL, &v));
    CHECK(v.kind == STK_KIND_LIST && stk_value_len(&v, &len) == STK_OK && len == 0);
    CHECK(stk_value_iter(&v, &inner) == STK_OK && stk_iter_next(&inner, NULL, &w) == STK_END);
    IS(STK_OK, stk_iter_next(&iter, NULL, &v));
    CHECK(v.kind == STK_KIND_DICT && stk_value_len(&v, &len) == STK_OK && len == 0);
    IS(STK_END, stk_value_get(&v, STK_STR("a"), &w));
    IS(STK_OK, stk_iter_next(&iter, NULL, &v));
    CHECK(v.kind == STK_KIND_DICT && stk_value_len(&v, &len) == STK_OK && len == 3);
    const stk_value dict = v; /* a view is copied; the walk that it came from may end */
    IS(STK_END, stk_iter_next(&iter, NULL, &v));
    IS(STK_END, stk_iter_next(&iter, NULL, &v));
    memset(&iter, 0xee, sizeof iter), memset(&v, 0xee, sizeof v);
    static const char *const keys[] = {"a", "b", ""};
    IS(STK_OK, stk_value_iter(&dict, &iter));
    for (size_t i = 0; i < COUNT(keys); i++)
        CHECK(stk_iter_next(&iter, &key, &v) == STK_OK && stk_str_eq(key, S(keys[i])));
    CHECK(stk_value_f64(&v, &f) == STK_OK && f == 2.5);
    IS(STK_END, stk_iter_next(&iter, &key, &v));
    IS(STK_OK, stk_value_get(&dict, STK_STR("a"), &v));
    IS(STK_OK, stk_value_iter(&v, &inner));
    CHECK(stk_iter_next(&inner, NULL, &w) == STK_OK && w.kind == STK_KIND_NONE);
    CHECK(stk_iter_next(&inner, NULL, &w) == STK_OK && stk_value_str(&w, &text) == STK_OK && stk_str_eq(text, STK_STR("x")));
    IS(STK_OK, stk_value_get(&dict, STK_STR("b"), &v));
    CHECK(stk_value_get(&v, STK_STR("c"), &w) == STK_OK && stk_value_bool(&w, &b) == STK_OK && b);
    CHECK(stk_value_get(&dict, (stk_str){NULL, 0}, &v) == STK_OK && v.kind == STK_KIND_F64);
    IS(STK_END, stk_value_get(&dict, STK_STR("d"), &v));
    IS(STK_VALUE, stk_value_get(list, STK_STR("a"), &v));
    IS(STK_INVALID, stk_value_get(&dict, (stk_str){"\xff", 1}, &v));
}

static void lists_and_dicts(void)
{
    stk_value value;
    stk_args *args = stk_args_new(h.client);
    put_nested(args);
    stk_result *result = echo(args, &value);
    check_nested(&value);
    stk_result_free(result);
    /* The same by name. */
    args = stk_args_new(h.client);
    stk_error *e = NULL;
    IS(STK_OK, stk_args_key(args, STK_STR("tree")));
    put_nested(args);
    IS(STK_OK, stk_args_push_str(args, STK_STR("tree"))); /* positional again */
    IS(STK_OK, stk_args_key(args, STK_STR("other")));
    IS(STK_OK, stk_args_push_i64(args, 3));
    WORKS(run(h.client, "one_named", args, &result, &e));
    IS(STK_OK, stk_result_value(result, &value));
    check_nested(&value);
    stk_result_free(result);
}

static void named_arguments(void)
{
    stk_value value, other;
    stk_result *result;
    stk_error *e = NULL;
    size_t len = 0;
    int64_t n = 0;
    stk_args *args = stk_args_new(h.client);
    IS(STK_OK, stk_args_push_i64(args, 1));
    IS(STK_OK, stk_args_key(args, STK_STR("x"))), IS(STK_OK, stk_args_push_i64(args, 2));
    IS(STK_OK, stk_args_push_i64(args, 3));
    IS(STK_OK, stk_args_key(args, STK_STR("y"))), IS(STK_OK, stk_args_push_i64(args, 4));
    WORKS(run(h.client, "named", args, &result, &e));
    IS(STK_OK, stk_result_value(result, &value));
    CHECK(stk_value_len(&value, &len) == STK_OK && len == 2);
    CHECK(stk_value_get(&value, STK_STR("y"), &other) == STK_OK && stk_value_i64(&other, &n) == STK_OK && n == 4);
    stk_result_free(result);
    args = stk_args_new(h.client);
    stk_args_push_i64(args, 1), stk_args_key(args, STK_STR("x")), stk_args_push_i64(args, 2), stk_args_push_i64(args, 3);
    WORKS(run(h.client, "all", args, &result, &e));
    IS(STK_OK, stk_result_value(result, &value));
    CHECK(stk_value_len(&value, &len) == STK_OK && len == 2);
    stk_result_free(result);
    args = stk_args_new(h.client);
    stk_args_push_str(args, STK_STR("missing"));
    WORKS(run(h.client, "one_named", args, &result, &e));
    stk_str text;
    CHECK(stk_result_str(result, &text) == STK_OK && stk_str_eq(text, STK_STR("none of it")));
    stk_result_free(result);
    WORKS(run(h.client, "named", NULL, &result, &e));
    CHECK(stk_result_value(result, &value) == STK_OK && stk_value_len(&value, &len) == STK_OK && len == 0);
    stk_result_free(result);
    WORKS(run(h.client, "lens", NULL, &result, &e));
    CHECK(stk_result_i64(result, &n) == STK_OK && n == 0);
    stk_result_free(result);
}

/* Each of these makes one mistake; all is remembered, and the call says so. */
static void arguments_put_together_wrongly(void)
{
    stk_error *e = NULL;
    for (int which = 0; which < 13; which++) {
        stk_args *args = stk_args_new(h.client);
        stk_status status = STK_INVALID;
        const char *words = "";
        switch (which) {
        case 0: status = stk_args_end(args), words = "without a list"; break;
        case 1: stk_args_begin_dict(args), status = stk_args_push_i64(args, 1), words = "without a key"; break;
        case 2: stk_args_begin_dict(args), stk_args_key(args, STK_STR("k")), status = stk_args_end(args), words = "no value"; break;
        case 3: stk_args_begin_dict(args), stk_args_key(args, STK_STR("k")), status = stk_args_key(args, STK_STR("l")), words = "no value"; break;
        case 4: stk_args_begin_list(args), status = stk_args_key(args, STK_STR("k")), words = "outside of a dict"; break;
        case 5: stk_args_key(args, STK_STR("k")), status = stk_args_key(args, STK_STR("l")), words = "no value"; break;
        case 6: stk_args_key(args, STK_STR("k")), status = stk_args_end(args), words = "no value"; break;
        case 7: stk_args_key(args, STK_STR("k")), words = "no value"; break;
        case 8: stk_args_begin_list(args), words = "not ended"; break;
        case 9: stk_args_key(args, STK_STR("k")), stk_args_begin_list(args), words = "not ended"; break;
        case 10: stk_args_key(args, STK_STR("k")), stk_args_push_none(args), status = stk_args_key(args, STK_STR("k")), words = "\"k\""; break;
        case 11: status = stk_args_push_str(args, (stk_str){"ab\xff", 3}), words = "UTF-8"; break;
        case 12: status = stk_args_key(args, (stk_str){NULL, 1}), words = "NULL"; break;
        }
        IS(STK_INVALID, status);
        const stk_status sent = run(h.client, "all", args, NULL, &e);
        if (sent != STK_INVALID || !strstr(stk_error_message(e), words)) {
            CHECK(!"the mistake is remembered");
            fprintf(stderr, "%d: %s %s\n", which, stk_status_name(sent), stk_error_message(e));
        }
        stk_error_free(e), e = NULL;
    }
    /* The first mistake is what is said. */
    stk_args *args = stk_args_new(h.client);
    stk_args_end(args), stk_args_push_str(args, (stk_str){"\xff", 1});
    FAILS(STK_INVALID, "without a list", run(h.client, "all", args, NULL, &e));
}

static void replies_put_together_wrongly(void)
{
    stk_error *e = NULL;
    static const char *const words[] = {"one value", "not ended", "without a list", "outside", "without a key",
                                        "no value",  "no value",  "UTF-8",          "NULL"};
    for (size_t i = 0; i < COUNT(words); i++) FAILS(STK_APP, words[i], run_i64(h.client, "wrong", (int64_t)i, NULL, &e));
    stk_result *result = NULL;
    stk_bytes bytes = {NULL, 1};
    WORKS(run_i64(h.client, "wrong", 9, &result, &e));
    CHECK(stk_result_bytes(result, &bytes) == STK_OK && bytes.len == 0);
    stk_result_free(result);
    CHECK(run_i64(h.client, "echo", 1, NULL, &e) == STK_OK);
}

static void reads_of_the_wrong_type(void)
{
    stk_value value, zero, other;
    stk_args *args = stk_args_new(h.client);
    stk_args_push_f64(args, 0.5);
    stk_result *result = echo(args, &value);
    bool b = true;
    int64_t n = 77;
    stk_str text = {"kept", 4};
    stk_bytes bytes = {"kept", 4};
    size_t len = 77;
    stk_iter iter;
    IS(STK_VALUE, stk_result_bool(result, &b)), IS(STK_VALUE, stk_value_bool(&value, &b));
    IS(STK_VALUE, stk_result_i64(result, &n)), IS(STK_VALUE, stk_value_i64(&value, &n));
    IS(STK_VALUE, stk_result_str(result, &text)), IS(STK_VALUE, stk_value_str(&value, &text));
    IS(STK_VALUE, stk_result_bytes(result, &bytes)), IS(STK_VALUE, stk_value_bytes(&value, &bytes));
    IS(STK_VALUE, stk_value_len(&value, &len)), IS(STK_VALUE, stk_value_iter(&value, &iter));
    IS(STK_VALUE, stk_value_get(&value, STK_STR("k"), &other));
    CHECK(b && n == 77 && text.len == 4 && bytes.len == 4 && len == 77); /* untouched */
    memset(&zero, 0, sizeof zero);
    CHECK(zero.kind == STK_KIND_NONE);
    IS(STK_VALUE, stk_value_i64(&zero, &n)), IS(STK_VALUE, stk_value_len(&zero, &len));
    memset(&iter, 0, sizeof iter);
    IS(STK_END, stk_iter_next(&iter, &text, &other));
    stk_result_free(result);
    args = stk_args_new(h.client);
    stk_args_push_bool(args, true), stk_args_push_i64(args, 7), stk_args_push_f64(args, 0.5);
    stk_args_push_str(args, STK_STR("text")), stk_args_push_bytes(args, "ab", 2);
    stk_error *e = NULL;
    WORKS(run(h.client, "typed", args, NULL, &e));
}

static stk_status nested(int depth, const char *action, stk_result **result)
{
    stk_args *args = stk_args_new(h.client);
    for (int i = 0; i < depth; i++) stk_args_begin_list(args);
    for (int i = 0; i < depth; i++) stk_args_end(args);
    return run(h.client, action, args, result, NULL);
}

/* 512 levels, of which two are the request's own; past that an error on either side, never a stack that overflows. */
static void nesting(void)
{
    int most = 0;
    stk_error *e = NULL;
    for (int depth = 500; depth <= 520; depth++)
        if (nested(depth, "lens", NULL) == STK_OK) most = depth;
    CHECK(most == 510);
    if (check_failures) fprintf(stderr, "most is %d\n", most);
    const stk_status status = nested(100000, "lens", NULL);
    CHECK(status == STK_BAD_REQUEST || status == STK_VALUE || status == STK_FRAME);
    WORKS(run_i64(h.client, "deep", 511, NULL, &e));
    const stk_status reply = run_i64(h.client, "deep", 100000, NULL, &e);
    IS(STK_APP, reply);
    CHECK(strstr(stk_error_message(e), "512"));
    stk_error_free(e), e = NULL;
    WORKS(run_i64(h.client, "deep", 3, NULL, &e));
}

/* A million entries and no more. */
static void long_lists(void)
{
    stk_error *e = NULL;
    stk_result *result = NULL;
    int64_t n = 0;
    const int most = under("valgrind") ? 3000 : 1 << 20;
    stk_args *args = stk_args_new(h.client);
    for (int i = 0; i < most; i++) stk_args_push_i64(args, i);
    WORKS(run(h.client, "lens", args, &result, &e));
    CHECK(stk_result_i64(result, &n) == STK_OK && n == most);
    stk_result_free(result);
    args = stk_args_new(h.client);
    for (int i = 0; i <= 1 << 20; i++) stk_args_push_none(args);
    const stk_status status = run(h.client, "lens", args, NULL, &e);
    CHECK(status == STK_BAD_REQUEST || status == STK_VALUE || status == STK_FRAME);
    CHECK(stk_error_status(e) == status && strstr(stk_error_message(e), "1048576"));
    stk_error_free(e);
}

/* If a key is there twice, the last counts; arguments refuse that, dicts within them do not. */
static void keys_that_are_there_twice(void)
{
    stk_value value, found;
    int64_t n = 0;
    size_t len = 0;
    stk_args *args = stk_args_new(h.client);
    IS(STK_OK, stk_args_begin_dict(args));
    for (int i = 1; i <= 3; i++) IS(STK_OK, stk_args_key(args, STK_STR("k"))), IS(STK_OK, stk_args_push_i64(args, i));
    IS(STK_OK, stk_args_end(args));
    stk_result *result = echo(args, &value);
    CHECK(stk_value_len(&value, &len) == STK_OK && len == 3);
    CHECK(stk_value_get(&value, STK_STR("k"), &found) == STK_OK && stk_value_i64(&found, &n) == STK_OK && n == 3);
    stk_result_free(result);
}

static void the_call_itself(void)
{
    stk_result *result = NULL;
    stk_error *e = NULL;
    stk_str text;
    WORKS(run(h.client, "who", NULL, &result, &e));
    CHECK(stk_result_str(result, &text) == STK_OK && stk_str_eq(text, STK_STR("who")) && stk_result_worker(result) == 1);
    stk_result_free(result);
    CHECK(stk_result_worker(NULL) == 0);
    /* The version of the header is that of the library. */
    CHECK(stk_version() == STK_VERSION_MAJOR * 1000000u + STK_VERSION_MINOR * 1000u + STK_VERSION_PATCH);
    CHECK(strcmp(stk_version_text(), STK_VERSION) == 0);
    CHECK(strcmp(stk_status_name(STK_WORKER_DIED), "STK_WORKER_DIED") == 0 && strcmp(stk_status_name(99), "unknown status") == 0);
    CHECK(strcmp(stk_status_text(STK_OK), "it worked") == 0 && strcmp(stk_status_text(99), "unknown status") == 0);
}

int main(int argc, char **argv)
{
    static const stk_app apps[] = {{.struct_size = sizeof(stk_app), .name = "t", .call = app}};
    static const test tests[] = {
        TEST(scalars),
        TEST(text_and_bytes),
        TEST(lists_and_dicts),
        TEST(named_arguments),
        TEST(arguments_put_together_wrongly),
        TEST(replies_put_together_wrongly),
        TEST(reads_of_the_wrong_type),
        TEST(nesting),
        TEST(long_lists),
        TEST(keys_that_are_there_twice),
        TEST(the_call_itself),
    };
    stk_error *e = NULL;
    if (stk_init(apps, 1, NULL, &e)) return stk_error_print(e);
    h = host_up(NULL);
    const int status = run_tests(tests, COUNT(tests), argc, argv);
    host_down(h);
    return status;
}
