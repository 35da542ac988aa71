/**
 * The source files of this repository as TypeScript's own parser sees them: what each imports and exports. The only
 * place that knows the parser's interface.
 */
import { readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  type ImportDeclaration,
  isCallExpression,
  isExportDeclaration,
  isImportDeclaration,
  isNamedExports,
  isNamedImports,
  isStringLiteral,
  type Node,
  type SourceFile,
  SyntaxKind,
} from 'typescript/unstable/ast';
import { API } from 'typescript/unstable/sync';

export const ROOT: string = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');

/** One name that a file takes from another; `*` for all of them. */
export interface Import {
  /** A path from the root of the repository, or the name of a package. */
  readonly target: string;
  readonly name: string;
  /** Nothing of it is left in the compiled program: the import loads no file. */
  readonly isType?: boolean;
  /** `import(…)`: loaded when it is called. */
  readonly isDynamic?: boolean;
}

/** One name that a file offers. */
export interface Export {
  /** `*` for everything of `from`. */
  readonly name: string;
  /** Where it comes from, when the file only passes it on. */
  readonly from?: Import;
  /** An interface or a type alias. */
  readonly isType: boolean;
}

export interface ParsedFile {
  /** From the root of the repository: `src/image/clone.ts`. */
  readonly path: string;
  readonly text: string;
  readonly lines: number;
  readonly tree: SourceFile;
  readonly imports: readonly Import[];
  readonly exports: readonly Export[];
}

/** Every file that tsconfig.json includes, parsed; sorted by path. */
export function parseSources(): ParsedFile[] {
  const api = new API({ cwd: ROOT });
  try {
    const snapshot = api.updateSnapshot({ openProjects: [join(ROOT, 'tsconfig.json')] });
    const [project] = snapshot.getProjects();
    if (!project) throw new Error('tsconfig.json was not found');
    const files: ParsedFile[] = [];
    for (const file of [...project.rootFiles].sort()) {
      const tree = project.program.getSourceFile(file);
      if (tree) files.push(parsed(file, tree));
    }
    return files;
  } finally {
    api.close();
  }
}

function parsed(file: string, tree: SourceFile): ParsedFile {
  const path = relative(ROOT, file);
  const text = readFileSync(file, 'utf8');
  return {
    path,
    text,
    lines: text.split('\n').length - 1,
    tree,
    imports: [...importsOf(path, tree)],
    exports: [...exportsOf(path, tree)],
  };
}

/** Calls `visit` for a node and everything below it. */
export function walk(node: Node, visit: (node: Node) => void): void {
  visit(node);
  node.forEachChild((child) => walk(child, visit));
}

/** The line of a node, counted from 1. */
export function lineOf(file: ParsedFile, node: Node): number {
  return file.text.slice(0, node.getStart(file.tree)).split('\n').length;
}

function* importsOf(path: string, tree: SourceFile): Generator<Import> {
  for (const statement of tree.statements) {
    if (isImportDeclaration(statement)) {
      const target = targetOf(path, statement.moduleSpecifier);
      for (const name of importedNames(statement)) {
        yield { target, name, isType: isTypeImport(statement) };
      }
    } else if (isExportDeclaration(statement) && statement.moduleSpecifier) {
      const target = targetOf(path, statement.moduleSpecifier);
      const isType = statement.isTypeOnly;
      for (const { source } of passedOn(statement)) yield { target, name: source, isType };
    }
  }
  const dynamic: Import[] = [];
  walk(tree, (node) => {
    if (isCallExpression(node) && node.expression.kind === SyntaxKind.ImportKeyword) {
      const [specifier] = node.arguments;
      if (specifier && isStringLiteral(specifier)) {
        dynamic.push({ target: targetOf(path, specifier), name: '*', isDynamic: true });
      }
    }
  });
  yield* dynamic;
}

function importedNames(statement: ImportDeclaration): string[] {
  const clause = statement.importClause;
  if (!clause) return [''];
  const names = clause.name ? ['default'] : [];
  const bindings = clause.namedBindings;
  if (!bindings) return names;
  if (!isNamedImports(bindings)) return [...names, '*'];
  return [...names, ...bindings.elements.map((element) => (element.propertyName ?? element.name).text)];
}

function isTypeImport(statement: ImportDeclaration): boolean {
  return statement.importClause?.phaseModifier === SyntaxKind.TypeKeyword;
}

function* exportsOf(path: string, tree: SourceFile): Generator<Export> {
  for (const statement of tree.statements) {
    if (isExportDeclaration(statement)) {
      const target = statement.moduleSpecifier ? targetOf(path, statement.moduleSpecifier) : undefined;
      for (const { name, source } of passedOn(statement)) {
        yield { name, isType: false, ...(target === undefined ? {} : { from: { target, name: source } }) };
      }
      continue;
    }
    if (!isExported(statement)) continue;
    const isType =
      statement.kind === SyntaxKind.InterfaceDeclaration ||
      statement.kind === SyntaxKind.TypeAliasDeclaration;
    for (const name of declaredNames(statement)) yield { name, isType };
  }
}

interface PassedOn {
  readonly name: string;
  readonly source: string;
}

function passedOn(statement: Node): PassedOn[] {
  if (!isExportDeclaration(statement)) return [];
  const clause = statement.exportClause;
  if (!clause) return [{ name: '*', source: '*' }];
  if (!isNamedExports(clause)) return [{ name: clause.name.text, source: '*' }];
  return clause.elements.map((element) => ({
    name: element.name.text,
    source: (element.propertyName ?? element.name).text,
  }));
}

export function isExported(statement: Node): boolean {
  const { modifiers } = statement as { modifiers?: readonly Node[] };
  return modifiers?.some((modifier) => modifier.kind === SyntaxKind.ExportKeyword) ?? false;
}

/** The names that a statement declares: one, or those of a list of variables. */
export function declaredNames(statement: Node): string[] {
  const { name, modifiers, declarationList } = statement as {
    name?: { text?: string };
    modifiers?: readonly Node[];
    declarationList?: { declarations: readonly { name: { text?: string } }[] };
  };
  if (modifiers?.some((modifier) => modifier.kind === SyntaxKind.DefaultKeyword)) return ['default'];
  const names = declarationList ? declarationList.declarations.map((each) => each.name.text) : [name?.text];
  return names.filter((each) => each !== undefined);
}

function targetOf(path: string, specifier: Node): string {
  const text = (specifier as { text?: string }).text ?? '';
  if (!text.startsWith('.')) return packageOf(text);
  return relative(ROOT, resolve(ROOT, dirname(path), text));
}

/** The package of a specifier, without its sub-path: `node:fs/promises` is `node:fs`. */
function packageOf(specifier: string): string {
  const parts = specifier.split('/');
  return specifier.startsWith('@') ? parts.slice(0, 2).join('/') : (parts[0] ?? '');
}
