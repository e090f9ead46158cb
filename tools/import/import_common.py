"""What the programs of this folder share: options, and how they end."""
import os
import sys


class UserError(Exception):
    """Something the user must know; the text says what to do."""


def add_bounds_option(parser):
    parser.add_argument("--bounds", action="append", default=[], metavar="FIELD=LOW:HIGH",
                        help="bounds of a field, such as actions=-1:1; repeatable")


def parse_bounds(texts):
    """{field: (low, high)} of the values of --bounds."""
    bounds = {}
    for text in texts:
        name, separator, numbers = text.rpartition("=")
        try:
            low, high = (float(number) for number in numbers.split(":"))
        except ValueError:
            separator = ""
        if not separator or not low < high:
            raise UserError("--bounds %s: expected FIELD=LOW:HIGH with LOW below HIGH, such as actions=-1:1" % text)
        bounds[name] = (low, high)
    return bounds


def ask_for_bounds(field):
    return UserError("%s: the data set says no finite bounds of it, and bounds of actions are never guessed: an action is "
                     "learnt as one of 1024 bins between them. Say --bounds %s=LOW:HIGH" % (field, field))


def show_mapping(mapping, arguments):
    if not arguments.quiet:
        sys.stderr.write("".join("mapping: %s\n" % line for line in mapping))


def legal(text):
    """`text` with every character that a name cannot have as _."""
    parts = ["".join(c if c.isascii() and (c.isalnum() or c in "_-.+:") else "_" for c in part)
             for part in text.split("/")]
    return "/".join("_" if part in ("", ".", "..") else part for part in parts)[:250]


def run(main, program):
    """Calls main() and ends with what gato-data understands: 2 for what the user must change, 141 for a closed pipe."""
    try:
        main()
    except BrokenPipeError:  # The importer has what it wanted, or says itself why not.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except UserError as error:
        sys.stderr.write("%s: %s\n" % (program, error))
        sys.exit(2)
    except KeyError as error:
        sys.exit("%s: %s: not in the data set, though it should be; is it damaged?" % (program, error))
    except (ValueError, OSError) as error:
        sys.exit("%s: %s" % (program, error))
    except KeyboardInterrupt:
        sys.exit(130)
