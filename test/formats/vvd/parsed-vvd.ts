/** What the compiled description gives, as far as the test looks at it. Parts are parsed when they are asked for. */
export interface ParsedVvd {
  readonly headerCopies: readonly ParsedHeader[];
  readonly header: ParsedHeader;
  readonly blockSize: number;
  readonly attributes: { readonly attributes: readonly ParsedAttribute[] };
  readonly journalSlot0?: ParsedSlot;
  readonly journalSlot1?: ParsedSlot;
  readonly spaceList: {
    readonly header: ParsedPageHeader;
    readonly head: Readonly<Record<string, unknown>> & { readonly directoriesWritten: readonly number[] };
    readonly firstExtents: readonly ParsedExtent[];
    readonly morePages: readonly {
      readonly header: ParsedPageHeader;
      readonly extents: readonly ParsedExtent[];
    }[];
  };
  readonly directory: readonly ParsedDirectory[];
  readonly checksums?: readonly {
    readonly header: ParsedPageHeader;
    readonly checksums?: readonly number[];
  }[];
}
interface ParsedUuid {
  readonly bytes: Uint8Array;
}
export type ParsedHeader = Readonly<Record<string, unknown>> & {
  readonly featureNames: readonly { readonly set: number; readonly bit: number; readonly name: string }[];
};
export interface ParsedText {
  readonly text: string;
  readonly padding: Uint8Array;
}
interface ParsedAttribute {
  readonly type: number;
  readonly key: string;
  readonly value: string;
}
export interface ParsedPageHeader {
  readonly magic: number;
  readonly isPage: boolean;
  readonly type: number;
  readonly version: number;
  readonly index: number;
  readonly diskUuid: ParsedUuid;
  readonly generation: number;
  readonly place: number;
  readonly reserved: Uint8Array;
  readonly crc: number;
}
export interface ParsedSlot {
  readonly header: ParsedPageHeader;
  readonly head: { readonly imageCount: number; readonly headPages: number };
  readonly isFilled: boolean;
  readonly homes: readonly number[];
  readonly images: readonly {
    readonly header: ParsedPageHeader;
    readonly body: Uint8Array | { readonly entries: readonly (ParsedDirectoryEntry | ParsedEntry)[] };
  }[];
}
interface ParsedExtent {
  readonly place: number;
  readonly length: number;
}
export interface ParsedDirectory {
  readonly isWritten: boolean;
  readonly header?: ParsedPageHeader;
  readonly body?: { readonly entries: readonly ParsedDirectoryEntry[] };
}
export interface ParsedDirectoryEntry {
  readonly place: number;
  readonly generation: number;
  readonly table?: {
    readonly header: ParsedPageHeader;
    readonly body: { readonly entries: readonly ParsedEntry[] };
  };
}
export interface ParsedEntry {
  readonly low: number;
  readonly high: number;
  readonly allocated: number;
  readonly zero: number;
  readonly kind: number;
  readonly place: number;
  readonly data?: Uint8Array;
  readonly compressed?: Uint8Array;
}
