//! Instructions of the classic BPF machine, with labels in place of distances.

/// `struct sock_filter` of `linux/filter.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    pub jump_true: u8,
    pub jump_false: u8,
    pub k: u32,
}

// Opcodes, from `linux/bpf_common.h` and `linux/filter.h`.
pub(super) const LD_WORD_ABS: u16 = 0x20;
pub(super) const LD_HALF_ABS: u16 = 0x28;
pub(super) const LD_BYTE_ABS: u16 = 0x30;
pub(super) const LD_WORD_IND: u16 = 0x40;
pub(super) const LD_HALF_IND: u16 = 0x48;
pub(super) const LD_BYTE_IND: u16 = 0x50;
pub(super) const LDX_MSH: u16 = 0xb1;
pub(super) const AND: u16 = 0x54;
pub(super) const SHIFT_LEFT: u16 = 0x64;
pub(super) const SHIFT_RIGHT: u16 = 0x74;
pub(super) const ADD_X: u16 = 0x0c;
pub(super) const TAX: u16 = 0x07;
pub(super) const JUMP: u16 = 0x05;
pub(super) const JUMP_EQUAL: u16 = 0x15;
pub(super) const JUMP_ANY: u16 = 0x45;
pub(super) const RETURN: u16 = 0x06;

/// The whole frame: the reader's buffer cuts it, and learns its length.
const ALL: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(usize);

/// Where a conditional jump goes if it does not go on.
#[derive(Clone, Copy)]
enum Jump {
    /// To a label if the condition holds.
    If(Label),
    /// To a label if it does not hold.
    Unless(Label),
}

/// Conditional jumps reach 255 instructions, so each one skips an unconditional jump, which reaches any.
#[derive(Default)]
pub(super) struct Assembler {
    program: Vec<Instruction>,
    /// The instruction that each label stands for.
    places: Vec<usize>,
    /// Unconditional jumps, and the labels that they go to.
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    pub(super) fn label(&mut self) -> Label {
        self.places.push(0);
        Label(self.places.len() - 1)
    }

    /// The label stands for the next instruction.
    pub(super) fn place(&mut self, Label(label): Label) {
        let here = self.program.len();
        if let Some(place) = self.places.get_mut(label) {
            *place = here;
        }
    }

    pub(super) fn load_word(&mut self, at: u32) {
        self.push(LD_WORD_ABS, at);
    }

    pub(super) fn load_half(&mut self, at: u32) {
        self.push(LD_HALF_ABS, at);
    }

    pub(super) fn load_byte(&mut self, at: u32) {
        self.push(LD_BYTE_ABS, at);
    }

    /// Loads the length of the IPv4 header at this place, for the places behind it.
    pub(super) fn load_header_length(&mut self, at: u32) {
        self.push(LDX_MSH, at);
    }

    /// Adds the accumulator to the length of the header.
    pub(super) fn add_to_header_length(&mut self) {
        self.push(ADD_X, 0);
        self.push(TAX, 0);
    }

    pub(super) fn load_word_at_header(&mut self, at: u32) {
        self.push(LD_WORD_IND, at);
    }

    pub(super) fn load_half_at_header(&mut self, at: u32) {
        self.push(LD_HALF_IND, at);
    }

    pub(super) fn load_byte_at_header(&mut self, at: u32) {
        self.push(LD_BYTE_IND, at);
    }

    pub(super) fn and(&mut self, mask: u32) {
        self.push(AND, mask);
    }

    pub(super) fn shift_left(&mut self, bits: u32) {
        self.push(SHIFT_LEFT, bits);
    }

    pub(super) fn shift_right(&mut self, bits: u32) {
        self.push(SHIFT_RIGHT, bits);
    }

    pub(super) fn jump(&mut self, to: Label) {
        self.jumps.push((self.program.len(), to));
        self.push(JUMP, 0);
    }

    pub(super) fn jump_if(&mut self, value: u32, to: Label) {
        self.conditional(JUMP_EQUAL, value, Jump::If(to));
    }

    pub(super) fn jump_unless(&mut self, value: u32, to: Label) {
        self.conditional(JUMP_EQUAL, value, Jump::Unless(to));
    }

    /// Jumps if none of these bits is set.
    pub(super) fn jump_unless_any(&mut self, bits: u32, to: Label) {
        self.conditional(JUMP_ANY, bits, Jump::Unless(to));
    }

    pub(super) fn reject_unless(&mut self, value: u32) {
        let go_on = self.label();
        self.jump_if(value, go_on);
        self.reject();
        self.place(go_on);
    }

    pub(super) fn accept(&mut self) {
        self.push(RETURN, ALL);
    }

    pub(super) fn reject(&mut self) {
        self.push(RETURN, 0);
    }

    pub(super) fn assemble(mut self) -> Vec<Instruction> {
        for &(at, Label(label)) in &self.jumps {
            let place = self.places.get(label).copied().unwrap_or_default();
            if let Some(jump) = self.program.get_mut(at) {
                // Every label is placed behind the jumps to it.
                jump.k = u32::try_from(place.saturating_sub(at + 1)).unwrap_or_default();
            }
        }
        self.program
    }

    fn conditional(&mut self, code: u16, k: u32, jump: Jump) {
        let (jump_true, jump_false, to) = match jump {
            Jump::If(to) => (0, 1, to),
            Jump::Unless(to) => (1, 0, to),
        };
        self.program.push(Instruction { code, jump_true, jump_false, k });
        self.jump(to);
    }

    fn push(&mut self, code: u16, k: u32) {
        self.program.push(Instruction { code, jump_true: 0, jump_false: 0, k });
    }
}
