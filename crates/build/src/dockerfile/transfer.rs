//! What COPY and ADD have in common: sources, here-documents among them, and a destination.

use super::ast::{Document, Transfer};
use super::diagnostic::{Kind, Problem};
use super::flags::Flags;
use super::heredoc;
use super::statement::Arguments;

/// The sources and, last, the destination.
pub(super) fn words(arguments: Arguments, keyword: &str) -> Result<Vec<String>, Problem> {
    match arguments {
        Arguments::Words(words) | Arguments::Json(words) if words.len() >= 2 => Ok(words),
        _ => {
            let message = format!(
                "{keyword} requires at least two arguments, but only one was provided. \
                 Destination could not be determined"
            );
            Err(Problem::new(Kind::Argument, message))
        }
    }
}

pub(super) fn transfer(
    mut words: Vec<String>,
    opened: Vec<Document>,
    flags: &mut Flags,
    keyword: &str,
) -> Result<Transfer, Problem> {
    let destination = words.pop().unwrap_or_default();
    if matches!(heredoc::opening(&destination), Ok(Some(_))) {
        let message = format!("{keyword} cannot accept a heredoc as a destination");
        return Err(Problem::new(Kind::Argument, message).near(destination));
    }
    let mut sources = Vec::with_capacity(words.len());
    let mut documents = Vec::new();
    for word in words {
        match heredoc::opening(&word) {
            Ok(Some(document)) => {
                // Of two with the same delimiter the last is meant, as a shell would have it.
                let content = opened.iter().rfind(|opened| opened.name == document.name);
                let content = content.map_or("", |opened| opened.content.as_str());
                let content = if document.chomp { heredoc::chomp(content) } else { content.to_owned() };
                documents.push(Document { content, ..document });
            }
            _ => sources.push(word),
        }
    }
    Ok(Transfer {
        sources,
        documents,
        destination,
        chown: flags.text("chown"),
        chmod: flags.text("chmod"),
        link: flags.switch("link").unwrap_or(false),
        exclude: flags.values("exclude"),
    })
}
