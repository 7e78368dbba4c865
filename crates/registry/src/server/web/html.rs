//! Writing HTML. Text is escaped where it is written, names of elements and attributes are the program's own, and where a link leads
//! is an [`Href`]: so nothing that somebody pushed can become markup. Knows nothing of what is shown.

use std::borrow::Cow;
use std::fmt::{Display, Write};

use super::address::Href;

/// Bytes of foreign text in one page, escaped: so that a page stays small whatever somebody has pushed.
const FOREIGN_MAX: usize = 16 << 10;

/// HTML that is being written.
pub struct Html {
    text: String,
    /// What is left for foreign text.
    room: usize,
}

/// An attribute: its name is ours, its value is escaped.
pub struct Attribute<'a>(&'static str, Cow<'a, str>);

pub fn attribute<'a>(name: &'static str, value: impl Into<Cow<'a, str>>) -> Attribute<'a> {
    debug_assert!(!matches!(name, "href" | "src" | "action" | "style") && !name.starts_with("on"), "{name}");
    Attribute(name, value.into())
}

pub fn class(names: &'static str) -> Attribute<'static> {
    Attribute("class", names.into())
}

pub fn href(to: &Href) -> Attribute<'_> {
    Attribute("href", to.as_str().into())
}

pub fn source(to: &Href) -> Attribute<'_> {
    Attribute("src", to.as_str().into())
}

pub fn action(to: &Href) -> Attribute<'_> {
    Attribute("action", to.as_str().into())
}

impl Html {
    /// A whole document begins.
    pub fn document() -> Html {
        Html { text: "<!doctype html>\n".to_owned(), room: FOREIGN_MAX }
    }

    #[cfg(test)]
    pub fn fragment() -> Html {
        Html { text: String::new(), room: FOREIGN_MAX }
    }

    pub fn into_string(self) -> String {
        self.text
    }

    /// An element with what is written inside.
    pub fn element(
        &mut self,
        name: &'static str,
        attributes: &[Attribute<'_>],
        inside: impl FnOnce(&mut Html),
    ) {
        self.void(name, attributes);
        inside(self);
        self.text.push_str("</");
        self.text.push_str(name);
        self.text.push('>');
    }

    /// An element that can't have anything inside.
    pub fn void(&mut self, name: &'static str, attributes: &[Attribute<'_>]) {
        self.text.push('<');
        self.text.push_str(name);
        for Attribute(name, value) in attributes {
            self.text.push(' ');
            self.text.push_str(name);
            self.text.push_str("=\"");
            escape(value, &mut self.text);
            self.text.push('"');
        }
        self.text.push('>');
    }

    /// Text of our own, and names that were checked.
    pub fn text(&mut self, text: impl Display) {
        // Writing to a string can't fail.
        let _ = write!(Escaping(&mut self.text), "{text}");
    }

    /// An element with nothing but a text.
    pub fn line(&mut self, name: &'static str, attributes: &[Attribute<'_>], text: impl Display) {
        self.element(name, attributes, |html| html.text(text));
    }

    /// Text that somebody else wrote: on one line, no longer than so many characters, apart from the text around it whatever direction
    /// it has, and with what can't be seen made visible.
    pub fn foreign(&mut self, text: &str, characters_max: usize) {
        self.element("bdi", &[], |html| html.cut(text, characters_max, false));
    }

    /// The same, with line breaks and indents as they are.
    pub fn foreign_lines(&mut self, text: &str, characters_max: usize) {
        self.element("bdi", &[], |html| html.cut(text, characters_max, true));
    }

    fn cut(&mut self, text: &str, characters_max: usize, lines: bool) {
        let (mut piece, mut escaped) = (String::new(), String::new());
        for (count, character) in text.chars().enumerate() {
            piece.clear();
            escaped.clear();
            show(character, lines, &mut piece);
            escape(&piece, &mut escaped);
            if count >= characters_max || escaped.len() > self.room {
                let rest = text.chars().count() - count;
                self.line("small", &[class("cut")], format_args!(" … {rest} more characters"));
                return;
            }
            self.room -= escaped.len();
            self.text.push_str(&escaped);
        }
    }
}

struct Escaping<'a>(&'a mut String);

impl Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        escape(text, self.0);
        Ok(())
    }
}

/// Enough for text and for values in double quotes (HTML, section 13.3).
fn escape(text: &str, into: &mut String) {
    for character in text.chars() {
        match character {
            '&' => into.push_str("&amp;"),
            '<' => into.push_str("&lt;"),
            '>' => into.push_str("&gt;"),
            '"' => into.push_str("&quot;"),
            '\'' => into.push_str("&#39;"),
            // No HTML may have it.
            '\0' => into.push('\u{2400}'),
            other => into.push(other),
        }
    }
}

/// A character of foreign text, so that it can be seen.
fn show(character: char, lines: bool, into: &mut String) {
    match character {
        '\n' | '\t' if lines => into.push(character),
        '\t' => into.push(' '),
        // Pictures of control characters stand in their order.
        '\0'..='\u{1f}' => into.push(char::from_u32(0x2400 + character as u32).unwrap_or('\u{fffd}')),
        '\u{7f}' => into.push('\u{2421}'),
        // The second row of control characters; what turns or hides text around it; tags; what is no character.
        '\u{80}'..='\u{9f}'
        | '\u{ad}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200c}'
        | '\u{200e}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}' => {
            let _ = write!(into, "\u{2039}U+{:04X}\u{203a}", character as u32);
        }
        other => into.push(other),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn foreign(text: &str, max: usize) -> String {
        let mut html = Html::fragment();
        html.foreign(text, max);
        html.into_string()
    }

    #[test]
    fn text_stays_text() {
        let mut html = Html::fragment();
        html.element("p", &[class("a"), attribute("title", "\"><script>")], |html| {
            html.text("<script>alert('x' & \"y\")</script>");
        });
        assert_eq!(
            html.into_string(),
            "<p class=\"a\" title=\"&quot;&gt;&lt;script&gt;\">&lt;script&gt;alert(&#39;x&#39; &amp; &quot;y&quot;)&lt;/script&gt;</p>"
        );
    }

    #[test]
    fn foreign_text_is_made_visible() {
        assert_eq!(foreign("a\0\u{1b}[31m\u{7f}\n", 99), "<bdi>a\u{2400}\u{241b}[31m\u{2421}\u{240a}</bdi>");
        assert_eq!(
            foreign("gpj\u{202e}exe\u{2066}", 99),
            "<bdi>gpj\u{2039}U+202E\u{203a}exe\u{2039}U+2066\u{203a}</bdi>"
        );
        let mut html = Html::fragment();
        html.foreign_lines("a\n\tb\r", 99);
        assert_eq!(html.into_string(), "<bdi>a\n\tb\u{240d}</bdi>");
    }

    #[test]
    fn foreign_text_is_cut() {
        assert_eq!(foreign("äöü", 2), "<bdi>äö<small class=\"cut\"> … 1 more characters</small></bdi>");
        let mut html = Html::fragment();
        for _ in 0..100 {
            html.foreign(&"&".repeat(1 << 16), 1 << 14);
        }
        let text = html.into_string();
        assert!(text.len() < FOREIGN_MAX + 100 * 80, "{}", text.len());
    }

    proptest! {
        #[test]
        fn nothing_becomes_markup(text in ".*") {
            let mut html = Html::fragment();
            html.foreign(&text, 1000);
            let mut plain = html.into_string().replace("<bdi>", "").replace("</bdi>", "");
            if let Some(at) = plain.find("<small class=\"cut\">") { plain.truncate(at); }
            let odd = ['<', '>', '"', '\'', '\u{202e}', '\0', '\n'];
            prop_assert!(!plain.contains(odd));
        }
    }
}
