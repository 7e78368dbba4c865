//! nf_tables data to netlink messages (linux/netfilter/nf_tables.h): one [`Transaction`] takes effect as a whole or not at all.

use corten_sys::netlink::{Batch, Error, Message, Socket};

use super::{
    Chain, Comparison, Element, Expression, Family, Field, Kind, Register, Rule, Set, Table, Verdict,
};

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;

const NEWTABLE: u16 = 0;
const DELTABLE: u16 = 2;
const NEWCHAIN: u16 = 3;
const NEWRULE: u16 = 6;
const DELRULE: u16 = 8;
const NEWSET: u16 = 9;
const NEWSETELEM: u16 = 12;
const DELSETELEM: u16 = 14;

const NFT_SET_INTERVAL: u32 = 4;
const NFT_SET_MAP: u32 = 8;
const NFT_SET_ELEM_INTERVAL_END: u32 = 1;
const NFT_LOOKUP_F_INV: u32 = 1;
const NFTNL_UDATA_COMMENT: u8 = 0;
const NFTNL_UDATA_SET_KEYBYTEORDER: u8 = 0;
const NFT_REG32_00: u32 = 8;
const NFT_REG_VERDICT: u32 = 0;
const NFT_FIB_RESULT_ADDRTYPE: u32 = 3;
const NFTA_FIB_F_DADDR: u32 = 2;
/// Bits per field in nft's number for a concatenated type.
const TYPE_BITS: u32 = 6;
/// An attribute's length has 16 bits; an element takes some 60 bytes.
const ELEMENTS_PER_MESSAGE: usize = 500;

/// Changes to nf_tables that the kernel commits together.
pub struct Transaction {
    family: Family,
    batch: Batch,
}

impl Transaction {
    /// Changes to tables of that family.
    pub fn new(family: Family) -> Transaction {
        let mut batch = Batch::new();
        // The header's last field names the subsystem, big-endian.
        batch.message(NFNL_MSG_BATCH_BEGIN, 0, &[0, 0, 0, NFNL_SUBSYS_NFTABLES as u8]);
        Transaction { family, batch }
    }

    /// Sends it and waits for the verdict.
    pub fn commit(mut self, socket: &Socket) -> Result<(), Error> {
        self.batch.message(NFNL_MSG_BATCH_END, 0, &[0, 0, 0, NFNL_SUBSYS_NFTABLES as u8]);
        socket.transact_atomic(&mut self.batch)
    }

    /// Puts `table` in the place of whatever has its name. Created first, so that deleting never fails.
    pub fn replace_table(&mut self, table: &Table) -> &mut Self {
        self.create_table(&table.name);
        self.delete_table(&table.name);
        self.create_table(&table.name);
        self.fill_table(table)
    }

    /// Makes a table that must not be there yet. Without something to delete the kernel need not wait for its readers.
    pub fn new_table(&mut self, table: &Table) -> &mut Self {
        self.message(NEWTABLE, NLM_F_CREATE | NLM_F_EXCL).string(1, &table.name);
        self.fill_table(table)
    }

    fn fill_table(&mut self, table: &Table) -> &mut Self {
        for (index, set) in table.sets.iter().enumerate() {
            self.create_set(&table.name, set, index as u32 + 1);
        }
        // Chains before rules: a rule may jump to a chain that is listed later.
        for chain in &table.chains {
            self.create_chain(&table.name, chain);
        }
        for chain in &table.chains {
            for rule in &chain.rules {
                self.add_rule(&table.name, chain.name, rule, NLM_F_APPEND);
            }
        }
        for set in &table.sets {
            self.add_elements(&table.name, &set.elements);
        }
        self
    }

    pub fn create_table(&mut self, name: &str) -> &mut Self {
        self.message(NEWTABLE, NLM_F_CREATE).string(1, name);
        self
    }

    pub fn delete_table(&mut self, name: &str) -> &mut Self {
        self.message(DELTABLE, 0).string(1, name);
        self
    }

    fn create_chain(&mut self, table: &str, chain: &Chain) {
        let mut message = self.message(NEWCHAIN, NLM_F_CREATE);
        message.string(1, table).string(3, chain.name);
        if let Some(base) = chain.base {
            message
                .nested(4, |hook| {
                    hook.be32(1, base.hook as u32).be32(2, base.priority as u32);
                })
                .be32(5, 1) // policy: NF_ACCEPT
                .string(
                    7,
                    match base.kind {
                        Kind::Filter => "filter",
                        Kind::Nat => "nat",
                    },
                );
        }
    }

    fn create_set(&mut self, table: &str, set: &Set, id: u32) {
        let is_map = !set.data.is_empty();
        let flags = if is_map { NFT_SET_MAP } else { 0 } | if set.intervals { NFT_SET_INTERVAL } else { 0 };
        let mut message = self.message(NEWSET, NLM_F_CREATE);
        message.string(1, table).string(2, set.name).be32(3, flags);
        message.be32(4, type_number(set.key)).be32(5, length(set.key));
        if is_map {
            message.be32(6, type_number(set.data)).be32(7, length(set.data));
        }
        message.be32(10, id);
        if set.key == [Field::Interface] {
            // Or `nft list` would print the names backwards: this says that they stand as the host writes them.
            message.bytes(13, &[NFTNL_UDATA_SET_KEYBYTEORDER, 4, 1, 0, 0, 0]);
        }
    }

    /// Appends a rule to a chain of ours.
    fn add_rule(&mut self, table: &str, chain: &str, rule: &Rule, flags: u16) {
        let mut message = self.message(NEWRULE, NLM_F_CREATE | flags);
        message.string(1, table).string(2, chain).nested(4, |list| {
            for expression in &rule.expressions {
                list.nested(1, |element| encode(expression, element));
            }
        });
        if let Some(comment) = &rule.comment {
            let mut data = vec![NFTNL_UDATA_COMMENT, comment.len() as u8 + 1];
            data.extend_from_slice(comment.as_bytes());
            data.push(0);
            message.bytes(7, &data);
        }
    }

    /// Puts a rule at the head of somebody's chain.
    pub fn insert_rule(&mut self, table: &str, chain: &str, rule: &Rule) -> &mut Self {
        self.add_rule(table, chain, rule, 0);
        self
    }

    pub fn delete_rule(&mut self, table: &str, chain: &str, handle: u64) -> &mut Self {
        self.message(DELRULE, 0).string(1, table).string(2, chain).be64(3, handle);
        self
    }

    pub fn add_elements(&mut self, table: &str, elements: &[Element]) -> &mut Self {
        self.elements(NEWSETELEM, NLM_F_CREATE, table, elements)
    }

    pub fn delete_elements(&mut self, table: &str, elements: &[Element]) -> &mut Self {
        self.elements(DELSETELEM, 0, table, elements)
    }

    /// One message per run of elements of the same set.
    fn elements(&mut self, kind: u16, flags: u16, table: &str, elements: &[Element]) -> &mut Self {
        for run in elements.chunk_by(|a, b| a.set == b.set).flat_map(|run| run.chunks(ELEMENTS_PER_MESSAGE)) {
            self.message(kind, flags).string(1, table).string(2, run[0].set).nested(3, |list| {
                for element in run {
                    list.nested(1, |item| {
                        item.nested(1, |key| {
                            key.bytes(1, element.key.as_slice());
                        });
                        if let Some(bytes) = element.data.filter(|_| kind == NEWSETELEM) {
                            item.nested(2, |data| {
                                data.bytes(1, bytes.as_slice());
                            });
                        }
                        if element.ends_interval {
                            item.be32(3, NFT_SET_ELEM_INTERVAL_END);
                        }
                    });
                }
            });
        }
        self
    }

    fn message(&mut self, kind: u16, flags: u16) -> Message<'_> {
        self.batch.message(NFNL_SUBSYS_NFTABLES << 8 | kind, flags, &[self.family as u8, 0, 0, 0])
    }
}

fn type_number(fields: &[Field]) -> u32 {
    fields.iter().fold(0, |number, field| number << TYPE_BITS | *field as u32)
}

fn length(fields: &[Field]) -> u32 {
    fields.iter().map(|field| field.bytes()).sum()
}

fn number(register: Register) -> u32 {
    NFT_REG32_00 + register.0
}

/// Writes the attributes of one list element: the expression's name and its data.
fn encode(expression: &Expression, element: &mut Message<'_>) {
    element.string(1, name(expression)).nested(2, |m| match expression {
        Expression::Meta { key, to } => {
            m.be32(1, number(*to)).be32(2, *key as u32);
        }
        Expression::Payload { base, offset, length, to } => {
            m.be32(1, number(*to)).be32(2, *base as u32).be32(3, *offset).be32(4, *length);
        }
        Expression::Conntrack { key, to } => {
            m.be32(1, number(*to)).be32(2, *key as u32);
        }
        Expression::DestinationType { to } => {
            m.be32(1, number(*to)).be32(2, NFT_FIB_RESULT_ADDRTYPE).be32(3, NFTA_FIB_F_DADDR);
        }
        Expression::Bitwise { register, mask } => {
            m.be32(1, number(*register)).be32(2, number(*register)).be32(3, mask.len() as u32);
            m.nested(4, |data| {
                data.bytes(1, mask);
            });
            m.nested(5, |data| {
                data.bytes(1, &vec![0; mask.len()]);
            });
        }
        Expression::Compare { register, comparison, value } => {
            m.be32(1, number(*register)).be32(
                2,
                match comparison {
                    Comparison::Equal => 0,
                    Comparison::NotEqual => 1,
                },
            );
            m.nested(3, |data| {
                data.bytes(1, value);
            });
        }
        Expression::Lookup { map, key, to } => {
            m.string(1, map).be32(2, number(*key)).be32(3, number(*to));
        }
        Expression::Member { set, key, inverted } => {
            m.string(1, set).be32(2, number(*key));
            if *inverted {
                m.be32(5, NFT_LOOKUP_F_INV);
            }
        }
        Expression::DestinationNat { family, address, port } => {
            m.be32(1, 1).be32(2, *family as u32).be32(3, number(*address)).be32(5, number(*port));
        }
        Expression::Immediate { to, value } => {
            m.be32(1, number(*to)).nested(2, |data| {
                data.bytes(1, value);
            });
        }
        Expression::DestinationPort { port } => {
            m.be32(1, 1).be32(2, Family::Ipv4 as u32).be32(5, number(*port));
        }
        Expression::Masquerade => {}
        Expression::Counter => {
            m.be64(1, 0).be64(2, 0);
        }
        Expression::Verdict(verdict) => {
            m.be32(1, NFT_REG_VERDICT).nested(2, |data| {
                data.nested(2, |v| {
                    let (code, chain) = match verdict {
                        Verdict::Drop => (0, None),
                        Verdict::Accept => (1, None),
                        Verdict::Jump(chain) => (-3i32, Some(chain)),
                        Verdict::Return => (-5, None),
                    };
                    v.be32(1, code as u32);
                    if let Some(chain) = chain {
                        v.string(2, chain);
                    }
                });
            });
        }
    });
}

fn name(expression: &Expression) -> &'static str {
    match expression {
        Expression::Meta { .. } => "meta",
        Expression::Payload { .. } => "payload",
        Expression::Conntrack { .. } => "ct",
        Expression::DestinationType { .. } => "fib",
        Expression::Bitwise { .. } => "bitwise",
        Expression::Compare { .. } => "cmp",
        Expression::Lookup { .. } | Expression::Member { .. } => "lookup",
        Expression::DestinationNat { .. } | Expression::DestinationPort { .. } => "nat",
        Expression::Masquerade => "masq",
        Expression::Counter => "counter",
        Expression::Immediate { .. } | Expression::Verdict(_) => "immediate",
    }
}
