//! Cuts a template into text and the tokens of its actions.
//!
//! Knows Go's trim markers, comments and literals; nothing of grammar.

use crate::TemplateError;

/// A piece of a template with the column (1-based, in characters) where it starts.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    pub kind: TokenKind,
    pub column: usize,
    /// Whether white space precedes the token: `.A .B` are two operands, `.A.B` is one.
    pub spaced: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum TokenKind {
    /// Literal text between actions.
    Raw(String),
    /// The end of an action; its beginning needs no token.
    Close,
    Text(String),
    Int(i64),
    Float(f64),
    Identifier(String),
    /// `.Name`
    Field(String),
    /// `$` or `$name`
    Variable(String),
    Dot,
    Pipe,
    Declare,
    Assign,
    Comma,
    OpenParen,
    CloseParen,
}

/// Splits `source` into tokens.
pub fn tokens(source: &str) -> Result<Vec<Token>, TemplateError> {
    let mut lexer = Lexer { chars: source.chars().collect(), at: 0, tokens: Vec::new() };
    lexer.run()?;
    Ok(lexer.tokens)
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
    tokens: Vec<Token>,
}

impl Lexer {
    fn run(&mut self) -> Result<(), TemplateError> {
        let mut trim_next = false;
        loop {
            let start = self.at;
            while self.at < self.chars.len() && !self.looking_at("{{") {
                self.at += 1;
            }
            let mut text: String = self.chars[start..self.at].iter().collect();
            if trim_next {
                text = text.trim_start().to_owned();
            }
            let at_action = self.at < self.chars.len();
            let column = self.at + 1;
            if at_action {
                self.at += 2;
                if self.peek(0) == Some('-') && self.peek(1).is_some_and(char::is_whitespace) {
                    text = text.trim_end().to_owned();
                    self.at += 1;
                }
            }
            if !text.is_empty() {
                self.tokens.push(Token { kind: TokenKind::Raw(text), column: start + 1, spaced: false });
            }
            if !at_action {
                return Ok(());
            }
            trim_next = self.action(column)?;
        }
    }

    /// Reads one action after its `{{`; tells whether it ends with a trim marker.
    fn action(&mut self, opened_at: usize) -> Result<bool, TemplateError> {
        if let Some(trim) = self.comment(opened_at)? {
            return Ok(trim);
        }
        loop {
            let spaced = self.skip_space();
            if self.looking_at("}}") {
                self.push(TokenKind::Close, self.at, spaced);
                self.at += 2;
                return Ok(false);
            }
            if spaced && self.looking_at("-}}") {
                self.push(TokenKind::Close, self.at, spaced);
                self.at += 3;
                return Ok(true);
            }
            if self.at >= self.chars.len() {
                return Err(TemplateError::new(opened_at, "this action has no closing }}"));
            }
            let start = self.at;
            let kind = self.token()?;
            self.push(kind, start, spaced);
        }
    }

    fn comment(&mut self, opened_at: usize) -> Result<Option<bool>, TemplateError> {
        let mut ahead = self.at;
        while self.chars.get(ahead).is_some_and(|c| c.is_whitespace()) {
            ahead += 1;
        }
        if self.chars[ahead..].first() != Some(&'/') || self.chars.get(ahead + 1) != Some(&'*') {
            return Ok(None);
        }
        self.at = ahead + 2;
        while self.at < self.chars.len() && !self.looking_at("*/") {
            self.at += 1;
        }
        self.at = (self.at + 2).min(self.chars.len());
        let spaced = self.skip_space();
        if self.looking_at("}}") {
            self.at += 2;
            return Ok(Some(false));
        }
        if spaced && self.looking_at("-}}") {
            self.at += 3;
            return Ok(Some(true));
        }
        Err(TemplateError::new(opened_at, "this comment is not closed by */}}"))
    }

    fn token(&mut self) -> Result<TokenKind, TemplateError> {
        let first = self.chars[self.at];
        let simple = match first {
            '|' => Some(TokenKind::Pipe),
            ',' => Some(TokenKind::Comma),
            '(' => Some(TokenKind::OpenParen),
            ')' => Some(TokenKind::CloseParen),
            '=' => Some(TokenKind::Assign),
            _ => None,
        };
        if let Some(kind) = simple {
            self.at += 1;
            return Ok(kind);
        }
        match first {
            ':' if self.peek(1) == Some('=') => {
                self.at += 2;
                Ok(TokenKind::Declare)
            }
            '"' => self.quoted(),
            '`' => self.raw_string(),
            '\'' => self.character(),
            '$' => {
                self.at += 1;
                Ok(TokenKind::Variable(format!("${}", self.word())))
            }
            '.' if self.peek(1).is_some_and(is_word) && !self.peek(1).is_some_and(|c| c.is_ascii_digit()) => {
                self.at += 1;
                Ok(TokenKind::Field(self.word()))
            }
            '.' if !self.peek(1).is_some_and(|c| c.is_ascii_digit()) => {
                self.at += 1;
                Ok(TokenKind::Dot)
            }
            '.' | '+' | '-' | '0'..='9' => self.number(),
            c if is_word(c) => Ok(TokenKind::Identifier(self.word())),
            c => Err(TemplateError::new(self.at + 1, format!("unexpected character {c:?}"))),
        }
    }

    fn quoted(&mut self) -> Result<TokenKind, TemplateError> {
        let opened_at = self.at + 1;
        self.at += 1;
        let mut text = String::new();
        loop {
            match self.next() {
                Some('"') => return Ok(TokenKind::Text(text)),
                Some('\\') => text.push(self.escape(opened_at)?),
                Some('\n') | None => return Err(TemplateError::new(opened_at, "this string is not closed")),
                Some(c) => text.push(c),
            }
        }
    }

    fn raw_string(&mut self) -> Result<TokenKind, TemplateError> {
        let opened_at = self.at + 1;
        self.at += 1;
        let start = self.at;
        while self.peek(0).is_some_and(|c| c != '`') {
            self.at += 1;
        }
        let text = self.chars[start..self.at].iter().collect();
        match self.next() {
            Some(_) => Ok(TokenKind::Text(text)),
            None => Err(TemplateError::new(opened_at, "this string is not closed")),
        }
    }

    fn character(&mut self) -> Result<TokenKind, TemplateError> {
        let opened_at = self.at + 1;
        self.at += 1;
        let value = match self.next() {
            Some('\\') => self.escape(opened_at)?,
            Some(c) if c != '\'' => c,
            _ => return Err(TemplateError::new(opened_at, "this character is not closed")),
        };
        match self.next() {
            Some('\'') => Ok(TokenKind::Int(value as i64)),
            _ => Err(TemplateError::new(opened_at, "this character is not closed")),
        }
    }

    fn escape(&mut self, opened_at: usize) -> Result<char, TemplateError> {
        let bad = || TemplateError::new(opened_at, "this string has an unknown escape");
        match self.next().ok_or_else(bad)? {
            'n' => Ok('\n'),
            't' => Ok('\t'),
            'r' => Ok('\r'),
            'a' => Ok('\x07'),
            'b' => Ok('\x08'),
            'f' => Ok('\x0c'),
            'v' => Ok('\x0b'),
            c @ ('\\' | '"' | '\'') => Ok(c),
            'x' => self.hex(2).ok_or_else(bad),
            'u' => self.hex(4).ok_or_else(bad),
            'U' => self.hex(8).ok_or_else(bad),
            _ => Err(bad()),
        }
    }

    fn hex(&mut self, digits: usize) -> Option<char> {
        let text: String = self.chars.get(self.at..self.at + digits)?.iter().collect();
        self.at += digits;
        u32::from_str_radix(&text, 16).ok().and_then(char::from_u32)
    }

    fn number(&mut self) -> Result<TokenKind, TemplateError> {
        let start = self.at;
        if matches!(self.peek(0), Some('+' | '-')) {
            self.at += 1;
        }
        while self.peek(0).is_some_and(|c| c.is_ascii_alphanumeric() || c == '.' || c == '_') {
            self.at += 1;
        }
        let text: String = self.chars[start..self.at].iter().filter(|c| **c != '_').collect();
        let (sign, digits) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text.strip_prefix('+').unwrap_or(&text)),
        };
        let lower = digits.to_ascii_lowercase();
        let radix = match lower.get(..2) {
            Some("0x") => Some(16),
            Some("0o") => Some(8),
            Some("0b") => Some(2),
            _ => None,
        };
        let whole = match radix {
            Some(radix) => i64::from_str_radix(&lower[2..], radix).ok(),
            None => lower.parse::<i64>().ok(),
        };
        if let Some(whole) = whole {
            return Ok(TokenKind::Int(sign * whole));
        }
        match digits.parse::<f64>() {
            Ok(value) if digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
                Ok(TokenKind::Float(sign as f64 * value))
            }
            _ => Err(TemplateError::new(start + 1, format!("{text:?} is no number"))),
        }
    }

    fn word(&mut self) -> String {
        let start = self.at;
        while self.peek(0).is_some_and(is_word) {
            self.at += 1;
        }
        self.chars[start..self.at].iter().collect()
    }

    fn skip_space(&mut self) -> bool {
        let start = self.at;
        while self.peek(0).is_some_and(char::is_whitespace) {
            self.at += 1;
        }
        self.at > start
    }

    fn push(&mut self, kind: TokenKind, start: usize, spaced: bool) {
        self.tokens.push(Token { kind, column: start + 1, spaced });
    }

    fn looking_at(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(offset, c)| self.peek(offset) == Some(c))
    }

    fn peek(&self, offset: usize) -> Option<char> {
        self.chars.get(self.at + offset).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek(0)?;
        self.at += 1;
        Some(c)
    }
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}
