//! What a mistyped word may have been meant to be: the nearest known one, by edit distance.

/// Words further away are no suggestion.
const DISTANCE_MAX: usize = 2;
/// Longer words are near to nothing that is known.
const WORD_MAX: usize = 64;

/// The nearest of `options`, unless it is `word` itself: then something else is wrong.
pub(super) fn nearest<'o>(word: &str, options: impl IntoIterator<Item = &'o str>) -> Option<&'o str> {
    let letters: Vec<char> = word.chars().take(WORD_MAX + 1).collect();
    if letters.len() > WORD_MAX {
        return None;
    }
    // Of two that are as near, the one with the same letters in another order, or else with the same start.
    let sorted = |letters: &[char]| {
        let mut letters = letters.to_vec();
        letters.sort_unstable();
        letters
    };
    let mixed = sorted(&letters);
    let shared = |option: &str| option.chars().zip(&letters).take_while(|(a, b)| a == *b).count();
    let mut best: Option<((usize, bool, usize), &str)> = None;
    for option in options.into_iter().filter(|option| !option.is_empty()) {
        if option == word {
            return None;
        }
        let distance = distance(&letters, option);
        if distance > DISTANCE_MAX {
            continue;
        }
        let option_letters: Vec<char> = option.chars().collect();
        let rank = (distance, sorted(&option_letters) != mixed, letters.len() - shared(option));
        if best.is_none_or(|(known, _)| rank < known) {
            best = Some((rank, option));
        }
    }
    best.map(|(_, option)| option)
}

/// Insertions, deletions and substitutions that make one word of the other.
fn distance(word: &[char], option: &str) -> usize {
    let mut row: Vec<usize> = (0..=word.len()).collect();
    for (line, wanted) in option.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, letter) in word.iter().enumerate() {
            let substitution = diagonal + usize::from(*letter != wanted);
            diagonal = row[column + 1];
            row[column + 1] = substitution.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[word.len()]
}
