//! Dictionaries as RFC 8941 writes them (section 3.2), as far as targeted fields need them (RFC 9213): names with bare values.
//! Parameters are read over, and so are the members of inner lists.

/// The value of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item<'a> {
    /// A boolean, or nothing, which is `true`.
    Flag(bool),
    /// An integer as written.
    Number(&'a str),
    /// A string or a token.
    Text(String),
    /// A decimal, bytes, or a list: nothing that a directive has.
    Other,
}

/// The members of a dictionary over its field lines, in order of their first naming; the last value of a name counts. `None`
/// when anything in it is wrong: such a field is as good as absent (RFC 9213, section 2.1).
pub(super) fn parse<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Option<Vec<(&'a str, Item<'a>)>> {
    let mut members: Vec<(&str, Item<'_>)> = Vec::new();
    for line in lines {
        let mut rest = Rest(std::str::from_utf8(line).ok()?.trim_matches(' '));
        while !rest.0.is_empty() {
            let name = rest.key()?;
            let item = if rest.skip('=') { rest.item_or_list()? } else { Item::Flag(true) };
            rest.parameters()?;
            match members.iter_mut().find(|(known, _)| *known == name) {
                Some((_, held)) => *held = item,
                None => members.push((name, item)),
            }
            rest.separator()?;
        }
    }
    Some(members)
}

/// What is still to be read.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn skip(&mut self, c: char) -> bool {
        self.0.strip_prefix(c).map(|rest| self.0 = rest).is_some()
    }

    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'a str {
        let end = self.0.bytes().position(|byte| !wanted(byte)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        taken
    }

    fn key(&mut self) -> Option<&'a str> {
        let starts = self.0.starts_with(|c: char| c.is_ascii_lowercase() || c == '*');
        let is_key = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.*".contains(&byte);
        starts.then(|| self.take_while(is_key))
    }

    /// A comma with a member after it, or the end.
    fn separator(&mut self) -> Option<()> {
        self.0 = self.0.trim_start_matches([' ', '\t']);
        if self.0.is_empty() {
            return Some(());
        }
        let comma = self.skip(',');
        self.0 = self.0.trim_start_matches([' ', '\t']);
        (comma && !self.0.is_empty()).then_some(())
    }

    fn parameters(&mut self) -> Option<()> {
        while self.skip(';') {
            self.0 = self.0.trim_start_matches(' ');
            self.key()?;
            if self.skip('=') {
                self.item()?;
            }
        }
        Some(())
    }

    fn item_or_list(&mut self) -> Option<Item<'a>> {
        if !self.skip('(') {
            return self.item();
        }
        loop {
            self.0 = self.0.trim_start_matches(' ');
            if self.skip(')') {
                return Some(Item::Other);
            }
            self.item()?;
            self.parameters()?;
            if !self.0.starts_with([' ', ')']) {
                return None;
            }
        }
    }

    fn item(&mut self) -> Option<Item<'a>> {
        let first = self.0.chars().next()?;
        match first {
            '?' => {
                let flag = match self.0.get(..2)? {
                    "?0" => false,
                    "?1" => true,
                    _ => return None,
                };
                self.0 = &self.0[2..];
                Some(Item::Flag(flag))
            }
            '"' => self.string(),
            ':' => {
                let (bytes, rest) = self.0[1..].split_once(':')?;
                self.0 = rest;
                let base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
                bytes.bytes().all(base64).then_some(Item::Other)
            }
            '-' | '0'..='9' => self.number(),
            '*' | 'a'..='z' | 'A'..='Z' => {
                let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte);
                Some(Item::Text(self.take_while(is_token).to_owned()))
            }
            _ => None,
        }
    }

    fn number(&mut self) -> Option<Item<'a>> {
        let whole = self.0;
        let negative = self.skip('-');
        let digits = self.take_while(|byte| byte.is_ascii_digit()).len();
        if self.skip('.') {
            let fraction = self.take_while(|byte| byte.is_ascii_digit()).len();
            return ((1..=12).contains(&digits) && (1..=3).contains(&fraction)).then_some(Item::Other);
        }
        (1..=15).contains(&digits).then(|| Item::Number(&whole[..digits + usize::from(negative)]))
    }

    fn string(&mut self) -> Option<Item<'a>> {
        let mut text = String::new();
        let mut characters = self.0.char_indices().skip(1);
        while let Some((at, c)) = characters.next() {
            match c {
                '"' => {
                    self.0 = &self.0[at + 1..];
                    return Some(Item::Text(text));
                }
                '\\' => text.push(characters.next().map(|(_, c)| c).filter(|c| ['"', '\\'].contains(c))?),
                ' '..='~' => text.push(c),
                _ => return None,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn one(text: &str) -> Option<Vec<(String, Item<'static>)>> {
        let value = HeaderValue::from_str(text).ok()?;
        let members = parse(std::iter::once(value.as_bytes()))?;
        let owned = |item: &Item<'_>| match item {
            Item::Flag(flag) => Item::Flag(*flag),
            Item::Number(text) => Item::Text(format!("number {text}")),
            Item::Text(text) => Item::Text(text.clone()),
            Item::Other => Item::Other,
        };
        Some(members.iter().map(|(name, item)| ((*name).to_owned(), owned(item))).collect())
    }

    fn member(text: &str) -> Option<Item<'static>> {
        one(text).and_then(|members| members.into_iter().next()).map(|(_, item)| item)
    }

    #[test]
    fn members_have_values_of_every_kind() {
        let text = |text: &str| Some(Item::Text(text.to_owned()));
        assert_eq!(member("a"), Some(Item::Flag(true)));
        assert_eq!(member("a=?0"), Some(Item::Flag(false)));
        assert_eq!(member("a=60;x=1;y"), text("number 60"));
        assert_eq!(member("a=-1"), text("number -1"));
        assert_eq!(member("a=\"q\\\"\\\\,\""), text("q\"\\,"));
        assert_eq!(member("*a_-.*=tok/en:x"), text("tok/en:x"));
        for other in ["a=1.5", "a=(1 \"x\";p ?1)", "a=()", "a=:YWJj:"] {
            assert_eq!(member(other), Some(Item::Other), "{other}");
        }
        assert_eq!(one("  a=1 ,\tb  ").unwrap().len(), 2);
        assert_eq!(one("").unwrap().len(), 0);
    }

    #[test]
    fn the_last_value_of_a_name_counts_over_all_lines() {
        let lines = [&b"a=1, b"[..], b"a=2"];
        assert_eq!(parse(lines.into_iter()).unwrap(), [("a", Item::Number("2")), ("b", Item::Flag(true))]);
    }

    #[test]
    fn what_is_wrong_anywhere_is_no_dictionary() {
        for wrong in [
            "A=1",
            "a=",
            "a= 1",
            "a =1",
            "a,",
            ",a",
            "a,,b",
            "a b",
            "a=1.",
            "a=1.2345",
            "a=\"x",
            "a=\"\\x\"",
            "a=?2",
            "a=(1",
            "a=(1(",
            "a=:x",
            "a=:!:",
            "a;=1",
            "1=a",
            "a=1234567890123456",
            "a=-",
            "a=\u{e9}",
        ] {
            assert_eq!(one(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..40), text in "[a-c=;,()\"?:0-2. ]{0,20}") {
            let _read = parse([&bytes[..], text.as_bytes()].into_iter());
        }
    }
}
