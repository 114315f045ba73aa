import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Base64;

/**
 * Runs SQL on the SQLite inside the JDBC driver on the class path, one request a line: "open URL", "run SQL" and
 * "rows SQL" (arguments in base64), "open-transaction". Answers "ok", "error TEXT", "yes"/"no", or one line a row
 * (values as n, i:NUMBER, r:BITS, t:BASE64, b:BASE64, separated by blanks) and then "end".
 */
public final class SqliteRunner {
    private static Connection connection;

    public static void main(String[] arguments) throws Exception {
        Class.forName("org.sqlite.JDBC");
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        PrintStream out = new PrintStream(System.out, false, "US-ASCII");
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] parts = line.split(" ", 2);
            String argument = parts.length < 2
                ? "" : new String(Base64.getDecoder().decode(parts[1]), StandardCharsets.UTF_8);
            try {
                answer(parts[0], argument, out);
            } catch (SQLException error) {
                out.println("error " + encoded(String.valueOf(error.getMessage()).getBytes(StandardCharsets.UTF_8)));
            }
            out.flush();
        }
    }

    private static void answer(String verb, String argument, PrintStream out) throws SQLException {
        switch (verb) {
            case "open":
                if (connection != null) {
                    connection.close();
                }
                connection = DriverManager.getConnection(argument);
                out.println("ok");
                break;
            case "run":
                try (Statement statement = connection.createStatement()) {
                    statement.execute(argument);
                }
                out.println("ok");
                break;
            case "rows":
                rows(argument, out);
                break;
            case "open-transaction":
                out.println(inTransaction() ? "yes" : "no");
                break;
            default:
                throw new IllegalArgumentException(verb);
        }
    }

    /** The driver of that age does not tell; a second BEGIN does. */
    private static boolean inTransaction() throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute("BEGIN");
        } catch (SQLException error) {
            return true;
        }
        try (Statement statement = connection.createStatement()) {
            statement.execute("ROLLBACK");
        }
        return false;
    }

    private static void rows(String sql, PrintStream out) throws SQLException {
        StringBuilder text = new StringBuilder();
        try (Statement statement = connection.createStatement(); ResultSet found = statement.executeQuery(sql)) {
            int width = found.getMetaData().getColumnCount();
            while (found.next()) {
                for (int at = 1; at <= width; at++) {
                    text.append(at > 1 ? " " : "").append(value(found.getObject(at)));
                }
                text.append('\n');
            }
        }
        out.print(text);
        out.println("end");
    }

    private static String value(Object value) {
        if (value == null) {
            return "n";
        }
        if (value instanceof Integer || value instanceof Long) {
            return "i:" + value;
        }
        if (value instanceof Double) {
            return "r:" + Double.doubleToRawLongBits((Double) value);
        }
        if (value instanceof byte[]) {
            return "b:" + encoded((byte[]) value);
        }
        return "t:" + encoded(((String) value).getBytes(StandardCharsets.UTF_8));
    }

    private static String encoded(byte[] raw) {
        return Base64.getEncoder().encodeToString(raw);
    }
}
