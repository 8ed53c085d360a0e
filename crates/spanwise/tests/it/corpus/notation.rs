//! How the corpus writes bytes: a small relative of protoscope for protobuf, and JSON with a few variables.

use spanwise_wire::encode::{put_len_field, put_message, put_tag, put_varint};

/// Ids that the variables stand for; every case has its own trace.
#[derive(Debug, Clone, Copy)]
pub struct Ids {
    pub trace: [u8; 16],
    pub span: [u8; 8],
}

/// Reads protobuf in the notation of the corpus.
pub fn proto(text: &str, ids: Ids) -> Vec<u8> {
    let mut reader = Reader { text: text.as_bytes(), at: 0, ids, counter: 0 };
    let mut out = Vec::new();
    reader.fields(&mut out);
    assert_eq!(reader.at, reader.text.len(), "text behind the message");
    out
}

/// Replaces the variables of a JSON text.
pub fn json(text: &str, ids: Ids) -> Vec<u8> {
    let hex = |id: &[u8]| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut text = text.trim_end().replace("$trace", &hex(&ids.trace)).replace("$span", &hex(&ids.span));
    for (name, piece) in [("$fill(", "x"), ("$open(", "["), ("$close(", "]")] {
        while let Some(start) = text.find(name) {
            let end = start + text[start..].find(')').expect("a closing bracket");
            let count: usize = text[start + name.len()..end].parse().expect("a number");
            text.replace_range(start..=end, &piece.repeat(count));
        }
    }
    text.into_bytes()
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    ids: Ids,
    /// Of the innermost repetition, from 1.
    counter: u64,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn space(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) {
        assert_eq!(self.peek().map(char::from), Some(char::from(byte)), "at byte {}", self.at);
        self.at += 1;
    }

    /// Up to the bracket that ends what this stands in, or the end.
    fn fields(&mut self, out: &mut Vec<u8>) {
        loop {
            self.space();
            match self.peek() {
                None | Some(b'}') => return,
                Some(b'`') => out.extend(self.hex()),
                Some(b'"') => out.extend(self.string()),
                Some(b'*') => self.repetition(out),
                Some(b'$') => {
                    let value = self.variable();
                    out.extend(value);
                }
                Some(b'0'..=b'9') => self.field(out),
                Some(other) => panic!("unexpected {:?} at byte {}", char::from(other), self.at),
            }
        }
    }

    fn repetition(&mut self, out: &mut Vec<u8>) {
        self.expect(b'*');
        let count = self.number();
        self.space();
        self.expect(b'{');
        let (start, outer) = (self.at, self.counter);
        let mut once = Vec::new();
        self.counter = 1;
        self.fields(&mut once);
        let uses_counter = self.text[start..self.at].contains(&b'$');
        if !uses_counter {
            out.extend(once.repeat(usize::try_from(count).expect("a count")));
        }
        for round in 1..=if uses_counter { count } else { 0 } {
            self.at = start;
            self.counter = round as u64;
            self.fields(out);
        }
        self.counter = outer;
        self.expect(b'}');
    }

    fn field(&mut self, out: &mut Vec<u8>) {
        let number = u32::try_from(self.number()).expect("a field number");
        self.expect(b':');
        match self.peek() {
            Some(b'{') => {
                self.at += 1;
                let mut body = Vec::new();
                self.fields(&mut body);
                self.expect(b'}');
                put_len_field(out, number, &body);
            }
            Some(b'"') => put_len_field(out, number, &self.string()),
            Some(b'`') => put_len_field(out, number, &self.hex()),
            Some(b'$') => put_len_field(out, number, &self.variable()),
            _ => {
                let value = self.number();
                if self.literal(b"i64") {
                    put_tag(out, number, 1);
                    out.extend((value as u64).to_le_bytes());
                } else if self.literal(b"i32") {
                    put_tag(out, number, 5);
                    out.extend((value as u32).to_le_bytes());
                } else {
                    put_tag(out, number, 0);
                    put_varint(out, value as u64);
                }
            }
        }
    }

    fn literal(&mut self, word: &[u8]) -> bool {
        let found = self.text[self.at..].starts_with(word);
        self.at += if found { word.len() } else { 0 };
        found
    }

    fn number(&mut self) -> i128 {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit() || byte == b'-') {
            self.at += 1;
        }
        std::str::from_utf8(&self.text[start..self.at]).unwrap().parse().expect("a number")
    }

    fn hex(&mut self) -> Vec<u8> {
        self.expect(b'`');
        let start = self.at;
        while self.peek().is_some_and(|byte| byte != b'`') {
            self.at += 1;
        }
        let digits: Vec<u8> =
            self.text[start..self.at].iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
        self.expect(b'`');
        assert_eq!(digits.len() % 2, 0, "an odd number of digits");
        let digit = |byte: u8| char::from(byte).to_digit(16).expect("a hexadecimal digit") as u8;
        digits.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
    }

    fn string(&mut self) -> Vec<u8> {
        self.expect(b'"');
        let mut out = Vec::new();
        loop {
            let byte = self.peek().expect("the end of the string");
            self.at += 1;
            match byte {
                b'"' => return out,
                b'\\' => self.escape(&mut out),
                byte => out.push(byte),
            }
        }
    }

    fn escape(&mut self, out: &mut Vec<u8>) {
        let byte = self.peek().expect("an escape");
        self.at += 1;
        match byte {
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'0' => out.push(0),
            b'e' => out.push(0x1b),
            b'x' => {
                let digits = std::str::from_utf8(&self.text[self.at..self.at + 2]).unwrap();
                out.push(u8::from_str_radix(digits, 16).expect("two hexadecimal digits"));
                self.at += 2;
            }
            b'u' => {
                self.expect(b'{');
                let start = self.at;
                while self.peek() != Some(b'}') {
                    self.at += 1;
                }
                let digits = std::str::from_utf8(&self.text[start..self.at]).unwrap();
                let scalar = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32).expect("a character");
                out.extend_from_slice(scalar.encode_utf8(&mut [0; 4]).as_bytes());
                self.expect(b'}');
            }
            byte => out.push(byte),
        }
    }

    fn variable(&mut self) -> Vec<u8> {
        self.expect(b'$');
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_alphanumeric()) {
            self.at += 1;
        }
        let name = std::str::from_utf8(&self.text[start..self.at]).unwrap().to_owned();
        match name.as_str() {
            "ids" => {
                let mut out = Vec::new();
                put_len_field(&mut out, 1, &self.ids.trace);
                put_len_field(&mut out, 2, &self.ids.span);
                out
            }
            "trace" => self.ids.trace.to_vec(),
            "span" => self.ids.span.to_vec(),
            "n" => self.counter.to_be_bytes().to_vec(),
            "before" => (self.counter - 1).to_be_bytes().to_vec(),
            "array" => nested(self.argument(), 5),
            "map" => nested(self.argument(), 6),
            name => panic!("unknown variable ${name}"),
        }
    }

    fn argument(&mut self) -> usize {
        self.expect(b'(');
        let number = usize::try_from(self.number()).expect("a count");
        self.expect(b')');
        number
    }
}

/// Body of an `AnyValue` of this many levels of lists (5) or maps (6).
fn nested(levels: usize, kind: u32) -> Vec<u8> {
    let mut value = vec![0x10, 0x01];
    for _ in 1..levels {
        let mut outer = Vec::new();
        put_message(&mut outer, kind, |list| match kind {
            5 => put_len_field(list, 1, &value),
            _ => put_message(list, 1, |entry| put_len_field(entry, 2, &value)),
        });
        value = outer;
    }
    value
}

#[test]
fn the_notation_means_what_it_says() {
    let ids = Ids { trace: [1; 16], span: [2; 8] };
    for (text, expected) in [
        ("1:2", vec![0x08, 2]),
        ("1:{2:\"a\"}", vec![0x0a, 3, 0x12, 1, b'a']),
        ("16:5i32 `ff 00`", vec![0x85, 0x01, 5, 0, 0, 0, 0xff, 0]),
        ("*3{ 1:`00` }", vec![0x0a, 1, 0, 0x0a, 1, 0, 0x0a, 1, 0]),
        ("\"\\u{e9}\\xff\\e\"", vec![0xc3, 0xa9, 0xff, 0x1b]),
        ("2:$span", vec![0x12, 8, 2, 2, 2, 2, 2, 2, 2, 2]),
        ("2:$array(2)", vec![0x12, 6, 0x2a, 4, 0x0a, 2, 0x10, 1]),
    ] {
        assert_eq!(proto(text, ids), expected, "{text}");
    }
    assert_eq!(json("[\"$span$fill(3)\"]\n", ids), b"[\"0202020202020202xxx\"]");
}
