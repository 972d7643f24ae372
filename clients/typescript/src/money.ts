// Amounts are whole numbers of minor units, as text or BigInt; never a Number, which loses digits above 2^53.

export interface Money {
  readonly minorUnits: string;
  /** The same with exactly the currency's digits: for people. */
  readonly decimal: string;
  readonly currency: string;
}

export interface FormatOptions {
  /** A plus before what is gained. */
  readonly signed?: boolean;
  /** Without the currency's sign. */
  readonly bare?: boolean;
}

/** As people of the locale write it, with all digits of the wallet. */
export function formatMoney(money: Pick<Money, "decimal" | "currency">, locale: string, options: FormatOptions = {}): string {
  const digits = money.decimal.split(".")[1]?.length ?? 0; // the wallet's; some browsers' tables differ
  const format = new Intl.NumberFormat(locale, {
    ...(options.bare ? {} : { style: "currency", currency: money.currency }),
    ...(options.signed ? { signDisplay: "exceptZero" } : {}),
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  });
  return format.format(money.decimal as `${number}`); // text is formatted exactly
}

/** Minor units as the wallet writes them: 1230 is "12.30" with two digits. */
export function toDecimal(minorUnits: bigint, exponent: number): string {
  const digits = (minorUnits < 0n ? -minorUnits : minorUnits).toString().padStart(exponent + 1, "0");
  const whole = digits.slice(0, digits.length - exponent);
  const fraction = exponent ? `.${digits.slice(digits.length - exponent)}` : "";
  return `${minorUnits < 0n ? "-" : ""}${whole}${fraction}`;
}

/**
 * What somebody typed, as minor units; null if it is no amount above zero, has too many digits, or could be read in two
 * ways: signs, spaces and grouped thousands are refused. A point and a comma are both decimal.
 */
export function parseMoney(text: string, exponent: number): bigint | null {
  const match = /^(\d{1,15})(?:[.,](\d+))?$/.exec(text.trim());
  const [, whole, fraction = ""] = match ?? [];
  if (whole === undefined || fraction.length > exponent) return null;
  const minorUnits = BigInt(whole + fraction.padEnd(exponent, "0"));
  return minorUnits > 0n ? minorUnits : null;
}
