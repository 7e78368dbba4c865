//! System call filters: from the specification's words to BPF.
