//! Archives that want out, that lie or that break off: refused by name, and nothing stays.
