//! Bodies made from the shapes: where tests of those who read requests begin.

use bytes::BufMut;

use super::{Kind, Shape};

impl Shape {
    /// A body of small lists and short texts. `next` chooses: it gives a number below the one it
    /// gets.
    pub fn example(
        &self,
        version: i16,
        flexible: bool,
        next: &mut dyn FnMut(usize) -> usize,
    ) -> Vec<u8> {
        let mut writer = Writer { out: Vec::new(), version, flexible, text: None, next };
        writer.structure(self);
        writer.out
    }

    /// The same with `text` in every string.
    pub fn example_with(
        &self,
        version: i16,
        flexible: bool,
        text: &[u8],
        next: &mut dyn FnMut(usize) -> usize,
    ) -> Vec<u8> {
        let mut writer = Writer { out: Vec::new(), version, flexible, text: Some(text), next };
        writer.structure(self);
        writer.out
    }
}

struct Writer<'a> {
    out: Vec<u8>,
    version: i16,
    flexible: bool,
    text: Option<&'a [u8]>,
    next: &'a mut dyn FnMut(usize) -> usize,
}

impl Writer<'_> {
    fn structure(&mut self, shape: &Shape) {
        for field in shape.fields {
            if (field.from..=field.to).contains(&self.version) {
                self.value(field.kind);
            }
        }
        if !self.flexible {
            return;
        }
        let defined: Vec<_> =
            shape.tags.iter().filter(|(_, field)| field.from <= self.version).collect();
        let unknown = (self.next)(2);
        self.out.put_u8((defined.len() + unknown) as u8);
        for (tag, field) in defined {
            let before = std::mem::take(&mut self.out);
            self.value(field.kind);
            let content = std::mem::replace(&mut self.out, before);
            self.out.push(*tag as u8);
            self.unsigned_varint(content.len());
            self.out.extend(content);
        }
        for _ in 0..unknown {
            self.out.extend([99, 3, 1, 2, 3]);
        }
    }

    fn value(&mut self, kind: Kind) {
        match kind {
            Kind::Fixed(bytes) => self.out.extend(vec![1; bytes]),
            Kind::Text => self.text(),
            Kind::Bytes => {
                let bytes = (self.next)(20);
                self.length(bytes);
                self.out.extend(vec![0xfe; bytes]);
            }
            Kind::List(shape) => {
                let count = self.count();
                (0..count).for_each(|_| self.structure(shape));
            }
            Kind::TextList => {
                let count = self.count();
                (0..count).for_each(|_| self.text());
            }
            Kind::FixedList(bytes) => {
                let count = self.count();
                self.out.extend(vec![2; count * bytes]);
            }
            Kind::Inner(shape) => self.structure(shape),
        }
    }

    fn count(&mut self) -> usize {
        let count = (self.next)(4);
        self.length(count);
        count
    }

    fn text(&mut self) {
        let text = match self.text {
            Some(text) => text.to_vec(),
            None => vec![b'x'; (self.next)(5)],
        };
        if self.flexible {
            self.length(text.len());
        } else {
            self.out.put_i16(text.len() as i16);
        }
        self.out.extend(text);
    }

    fn length(&mut self, length: usize) {
        if self.flexible {
            self.unsigned_varint(length + 1);
        } else {
            self.out.put_i32(length as i32);
        }
    }

    fn unsigned_varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }
}
