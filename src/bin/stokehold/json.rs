//! Values as JSON, both ways. What JSON lacks is written as an object with one key that begins with `$`: bytes as
//! `{"$bytes": "base64"}`, floats that are not finite as `{"$float": "nan"}`, `"inf"` or `"-inf"`.

use serde_json::{Map, Number, Value as Json};
use stokehold::Value;

/// Reads one value.
pub fn parse(text: &str) -> Result<Value, String> {
    let json: Json = serde_json::from_str(text).map_err(|e| e.to_string())?;
    from_json(json)
}

/// Writes one value; `pretty` over several lines.
pub fn print(value: &Value, pretty: bool) -> String {
    let json = to_json(value);
    let text = if pretty { serde_json::to_string_pretty(&json) } else { serde_json::to_string(&json) };
    text.unwrap_or_else(|e| format!("{{\"$error\": {:?}}}", e.to_string()))
}

fn from_json(json: Json) -> Result<Value, String> {
    Ok(match json {
        Json::Null => Value::None,
        Json::Bool(truth) => Value::Bool(truth),
        // An integer stays one: as a float it would be another number.
        Json::Number(number) => match (number.as_i64(), number.as_str().contains(['.', 'e', 'E'])) {
            (Some(n), false) => Value::Int(n),
            (_, false) => return Err(format!("{number} does not fit into 64 bits with a sign")),
            (_, true) => Value::Float(number.as_f64().ok_or_else(|| format!("{number} is too large"))?),
        },
        Json::String(text) => Value::Str(text),
        Json::Array(items) => Value::List(items.into_iter().map(from_json).collect::<Result<_, _>>()?),
        Json::Object(pairs) => match special(&pairs) {
            Some(value) => value?,
            None => {
                let pairs = pairs.into_iter().map(|(key, value)| from_json(value).map(|value| (key, value)));
                Value::Dict(pairs.collect::<Result<_, _>>()?)
            }
        },
    })
}

/// What an object stands for that JSON has no other way to write.
fn special(pairs: &Map<String, Json>) -> Option<Result<Value, String>> {
    if pairs.len() != 1 {
        return None;
    }
    match pairs.iter().next()? {
        (key, Json::String(text)) if key == BYTES => Some(
            from_base64(text).map(Value::Bytes).ok_or_else(|| format!("{BYTES}: {text:?} is not base64")),
        ),
        (key, Json::String(text)) if key == FLOAT => Some(match text.as_str() {
            "nan" => Ok(Value::Float(f64::NAN)),
            "inf" => Ok(Value::Float(f64::INFINITY)),
            "-inf" => Ok(Value::Float(f64::NEG_INFINITY)),
            _ => Err(format!("{FLOAT}: {text:?} is none of nan, inf and -inf")),
        }),
        _ => None,
    }
}

fn to_json(value: &Value) -> Json {
    let tagged =
        |key: &str, text: String| Json::Object([(key.to_owned(), Json::String(text))].into_iter().collect());
    match value {
        Value::None => Json::Null,
        Value::Bool(truth) => Json::Bool(*truth),
        Value::Int(n) => Json::Number((*n).into()),
        Value::Float(x) => match Number::from_f64(*x) {
            Some(number) => Json::Number(number),
            None if x.is_nan() => tagged(FLOAT, "nan".into()),
            None => tagged(FLOAT, if *x > 0.0 { "inf" } else { "-inf" }.into()),
        },
        Value::Bytes(bytes) => tagged(BYTES, to_base64(bytes)),
        Value::Str(text) => Json::String(text.clone()),
        Value::List(items) => Json::Array(items.iter().map(to_json).collect()),
        Value::Dict(pairs) => {
            Json::Object(pairs.iter().map(|(key, value)| (key.clone(), to_json(value))).collect())
        }
    }
}

const BYTES: &str = "$bytes";
const FLOAT: &str = "$float";
/// RFC 4648, with padding.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |i: usize| u32::from(three.get(i).copied().unwrap_or(0));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * i)) as usize & 63] as char;
            text.push(if i <= three.len() { digit } else { '=' });
        }
    }
    text
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    if !text.len().is_multiple_of(4) || padding > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    let (mut word, mut bits) = (0u32, 0);
    for digit in digits.bytes() {
        word = word << 6 | ALPHABET.iter().position(|d| *d == digit)? as u32;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((word >> bits) as u8);
            word &= (1 << bits) - 1;
        }
    }
    (word == 0).then_some(bytes) // what is left over belongs to no byte
}
