//! The functions of this program by their addresses, from its own file.

use std::fs;

/// Address and name, in the order of addresses.
pub struct Symbols {
    all: Vec<(u64, String)>,
    base: u64,
}

const SYMTAB: u32 = 2;
const FUNCTION: u8 = 2;

impl Symbols {
    /// Those of this process.
    pub fn read() -> Symbols {
        let exe = fs::read_link("/proc/self/exe").unwrap();
        let file = fs::read(&exe).unwrap();
        let u64_at = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().unwrap());
        let u32_at = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
        let u16_at = |at: usize| u16::from_le_bytes(file[at..at + 2].try_into().unwrap());
        let (sections, size, count) = (u64_at(40) as usize, u16_at(58) as usize, u16_at(60) as usize);
        let section = |n: usize| sections + n * size;
        let mut all = Vec::new();
        for table in (0..count).map(section).filter(|at| u32_at(at + 4) == SYMTAB) {
            let (from, bytes) = (u64_at(table + 24) as usize, u64_at(table + 32) as usize);
            let names = u64_at(section(u32_at(table + 40) as usize) + 24) as usize;
            for symbol in (from..from + bytes).step_by(24).filter(|at| file[at + 4] & 0xf == FUNCTION) {
                let name = &file[names + u32_at(symbol) as usize..];
                let end = name.iter().position(|byte| *byte == 0).unwrap_or(0);
                all.push((u64_at(symbol + 8), String::from_utf8_lossy(&name[..end]).into_owned()));
            }
        }
        all.sort();
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let first = maps.lines().find(|line| line.ends_with(&*exe.to_string_lossy())).unwrap();
        let base = u64::from_str_radix(first.split_once('-').unwrap().0, 16).unwrap();
        Symbols { all, base }
    }

    /// The function at an address of this process, readable.
    pub fn name(&self, address: u64) -> Option<String> {
        let at = address.checked_sub(self.base)?;
        let next = self.all.partition_point(|(begin, _)| *begin < at);
        Some(readable(&self.all.get(next.checked_sub(1)?)?.1))
    }
}

/// `_ZN9stokehold4conn4link4Link3new17h0123456789abcdefE`: lengths and names, and a hash that is left out.
fn readable(mangled: &str) -> String {
    let mut rest = mangled.strip_prefix("_ZN").unwrap_or("");
    let mut parts = Vec::new();
    while let Some(digits) = rest.find(|c: char| !c.is_ascii_digit()).filter(|n| *n > 0) {
        let (len, tail) = rest.split_at(digits);
        let Some((name, tail)) = tail.split_at_checked(len.parse().unwrap_or(usize::MAX)) else { break };
        parts.push(name);
        rest = tail;
    }
    if parts.is_empty() {
        return mangled.to_owned();
    }
    parts.pop();
    let path = parts.join("::");
    let signs = [("$LT$", "<"), ("$GT$", ">"), ("$u20$", " "), ("$C$", ","), ("$RF$", "&"), ("..", "::")];
    let signs = signs.into_iter().chain([("$u7b$", "{"), ("$u7d$", "}"), ("_<", "<"), ("$BP$", "*")]);
    signs.fold(path, |path, (sign, text)| path.replace(sign, text))
}
