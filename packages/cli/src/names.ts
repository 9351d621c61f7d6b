/** Plausible names by country, in the scripts people there write them in: [country, given names, family names, family first]. */
export interface Locale {
  country: string;
  given: string[];
  family: string[];
  familyFirst?: boolean;
  /** Put between the two names. */
  joiner?: string;
}

const words = (text: string) => text.split(" ");

export const locales: Locale[] = [
  {
    country: "DE",
    given: words("Anna Jürgen Käthe Lukas Mia Sören Ursula Björn Hanna Günther"),
    family: words("Müller Schmidt Weiß Größmann Köhler Schäfer Vogt Jäger Krüger Lang"),
  },
  {
    country: "FR",
    given: words("Élodie François Chloé Hélène Luc Zoé Rémi Amélie Gaël Noémie"),
    family: words("Lefèvre Dubois Béranger Moreau Gauthier Lemaître Petit Rousseau Françoise Noël"),
  },
  {
    country: "ES",
    given: words("José María Íñigo Lucía Álvaro Begoña Nuria Andrés Inés Joaquín"),
    family: words("García Núñez Muñoz Pérez Ibáñez López Sánchez Peña Vázquez Gómez"),
  },
  {
    country: "BR",
    given: words("João Ana Luís Beatriz Caio Letícia Antônio Júlia Thiago Conceição"),
    family: words("Silva Souza Araújo Gonçalves Oliveira Pinto Assunção Barros Lima Melo"),
  },
  {
    country: "PL",
    given: words("Łukasz Zofia Michał Agnieszka Paweł Małgorzata Grzegorz Ewa Jakub Żaneta"),
    family: words("Kowalski Wiśniewska Wójcik Dąbrowski Zieliński Szymańska Woźniak Łukasik Mazur Krawczyk"),
  },
  {
    country: "CZ",
    given: words("Jiří Tereza Ondřej Kateřina Matěj Zdeňka Tomáš Eliška Vojtěch Hana"),
    family: words("Novák Dvořák Svoboda Černý Procházka Kučera Veselý Horák Němec Říha"),
  },
  {
    country: "SE",
    given: words("Åsa Björn Ebba Göran Linnéa Måns Saga Östen Tuva Sören"),
    family: words("Åkesson Öberg Lindström Sjöberg Bäckman Nordin Ek Hägg Ström Dahl"),
  },
  {
    country: "DK",
    given: words("Søren Mette Jørgen Freja Bjørn Sørine Lærke Åge Karen Mads"),
    family: words("Sørensen Kjær Møller Nørgaard Østergaard Jensen Holm Dam Bæk Friis"),
  },
  {
    country: "IS",
    given: words("Þór Sigríður Björk Ægir Guðrún Ólafur Hildur Jón Ásta Einar"),
    family: words(
      "Jónsson Sigurðardóttir Þorsteinsson Ólafsdóttir Ægisson Björnsdóttir Gunnarsson Stefánsdóttir Egilsson Magnúsdóttir",
    ),
  },
  {
    country: "TR",
    given: words("Işıl Özgür Çağla Şebnem Gökhan İpek Ümit Defne Yiğit Ayşe"),
    family: words("Yılmaz Öztürk Şahin Çelik Güneş Koç Doğan Kılıç Aydın Ünal"),
  },
  {
    country: "VN",
    given: words("Anh Bình Dũng Hương Khánh Linh Minh Ngọc Quỳnh Tuấn"),
    family: words("Nguyễn Trần Lê Phạm Huỳnh Võ Đặng Bùi Đỗ Hồ"),
    familyFirst: true,
  },
  {
    country: "GR",
    given: words("Γιώργος Ελένη Νίκος Μαρία Κώστας Σοφία Δημήτρης Άννα Πέτρος Ζωή"),
    family: words("Παπαδόπουλος Αγγελής Νικολάου Γεωργίου Ιωάννου Δήμου Βασιλείου Οικονόμου Ψαράς Λάμπρου"),
  },
  {
    country: "UA",
    given: words("Олена Тарас Ірина Богдан Ганна Юрій Соломія Андрій Зоряна Їгор"),
    family: words("Шевченко Коваль Бойко Ткаченко Мельник Гнатюк Лисенко Мороз Поліщук Яценко"),
  },
  {
    country: "BG",
    given: words("Георги Мария Иван Елена Димитър Йорданка Петър Цветана Стоян Яна"),
    family: words("Иванов Петрова Димитров Георгиева Николов Стоянова Тодоров Колева Ангелов Попова"),
  },
  {
    country: "GE",
    given: words("გიორგი ნინო დავით თამარ ლევან ქეთევან ირაკლი მარიამ ზურაბ ანა"),
    family: words("ბერიძე კაპანაძე გელაშვილი მამედოვი ლომიძე წერეთელი ჯაფარიძე ხარაძე მეგრელი დოლიძე"),
  },
  {
    country: "AM",
    given: words("Արամ Անի Հայկ Մարիամ Տիգրան Նարե Գոռ Լիլիթ Դավիթ Սոնա"),
    family: words("Հակոբյան Սարգսյան Գրիգորյան Պետրոսյան Մկրտչյան Խաչատրյան Ավագյան Դավթյան Ղազարյան Սիմոնյան"),
  },
  {
    country: "IL",
    given: words("דוד שרה יוסף רבקה משה נועה איתן תמר אורי מיכל"),
    family: words("כהן לוי מזרחי פרץ ביטון אברהם פרידמן שפירא גולן ברק"),
  },
  {
    country: "EG",
    given: words("أحمد فاطمة محمد مريم يوسف سلمى عمر ليلى حسن نور"),
    family: words("المصري حسن إبراهيم عبدالله منصور سليمان فؤاد شاكر نجيب رشدي"),
  },
  {
    country: "IR",
    given: words("رضا زهرا علی مریم پویا شیرین کیان نازنین آرش پریسا"),
    family: words("محمدی احمدی حسینی رضایی کریمی جعفری گلستانی پهلوان چمنی ژاله"),
  },
  {
    country: "IN",
    given: words("आरव प्रिया रोहन अनन्या विक्रम काव्या अर्जुन मीरा ईशान दिया"),
    family: words("शर्मा वर्मा गुप्ता सिंह पटेल नायर जोशी मेहता कुमार राव"),
  },
  {
    country: "BD",
    given: words("রহিম আয়েশা করিম ফারহানা তানভীর নুসরাত সজীব মিতু আরিফ রুমা"),
    family: words("হোসেন রহমান ইসলাম চৌধুরী আহমেদ খান সরকার দাস বেগম আলী"),
  },
  {
    country: "TH",
    given: words("สมชาย มาลี อนันต์ กานดา ธนา พิมพ์ วิชัย สุดา ปกรณ์ นภา"),
    family: words("ใจดี ศรีสุข ทองดี วงศ์ไทย แสงทอง บุญมี รักไทย พูนสุข จันทร์เพ็ญ สายทอง"),
  },
  {
    country: "JP",
    given: words("翔太 美咲 健 陽菜 大輔 さくら 拓海 結衣 直樹 あかり"),
    family: words("佐藤 鈴木 高橋 田中 渡辺 伊藤 山本 中村 小林 加藤"),
    familyFirst: true,
  },
  {
    country: "CN",
    given: words("伟 芳 娜 敏 静 磊 洋 艳 勇 杰"),
    family: words("王 李 张 刘 陈 杨 黄 赵 吴 周"),
    familyFirst: true,
    joiner: "",
  },
  {
    country: "KR",
    given: words("민준 서연 도윤 지우 예준 하은 시우 수아 지호 유진"),
    family: words("김 이 박 최 정 강 조 윤 장 임"),
    familyFirst: true,
    joiner: "",
  },
  {
    country: "ET",
    given: words("አበበ ሰላም ዳዊት ሄለን ብርሃን ሙሉ ተስፋዬ ሃና ዮሐንስ ማርታ"),
    family: words("ከበደ ታደሰ ገብረ ወልደ አለሙ በቀለ ደስታ ኃይሉ መኮንን ግርማ"),
  },
  {
    country: "NG",
    given: words("Adébáyọ̀ Chiọma Ṣadé Emeka Ngọzi Túndé Ìfẹ́ Obinna Zainab Kẹ́hìndé"),
    family: words("Okafor Adéyẹmí Balógun Eze Ọlátúnjí Musa Nwosu Akíntọ́lá Bello Uche"),
  },
  {
    country: "US",
    given: words("Ava Liam Zoë Noah Renée Mason Beyoncé Ethan Chloë James"),
    family: words("Smith O'Brien Johnson Nguyen-Lee Brown D'Angelo Davis Martinez Wilson McKay"),
  },
  {
    country: "IE",
    given: words("Seán Siobhán Pádraig Aoife Ciarán Niamh Eoin Róisín Tadhg Sinéad"),
    family: words("Ó'Briain Murphy Ní Fhloinn Kelly Walsh Mac Cárthaigh Byrne Ryan"),
  },
  {
    country: "ID",
    given: words("Budi Siti Agus Dewi Rizki Ayu Bayu Putri Joko Wulan"),
    family: words("Santoso Wijaya Kusuma Pratama Hidayat Lestari Saputra Utami Nugroho Rahayu"),
  },
];

export const interests = words(
  "chess climbing cooking cycling photography gardening poetry astronomy football jazz open-source pottery running sailing tea theatre " +
    "travel yoga history robotics birdwatching origami calligraphy board-games linguistics",
);

export const sentences = [
  "Likes long walks and short meetings.",
  "Learning something new every week.",
  "Reads more than is reasonable.",
  "Happiest near the sea.",
  "Collects maps of places that no longer exist.",
  "Will talk about coffee for an hour.",
  "Fixes bicycles on Saturdays.",
  "Plays in a very small orchestra.",
];
